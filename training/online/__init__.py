"""Drafters that go on learning while they serve: corrections in, judged versions out (OSD, 2310.07177)."""
