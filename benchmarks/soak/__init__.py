"""A cluster at saturation for minutes: does it grow, and does it give back what answers and dead routers held?"""
