"""The contracts between clients, routers, drafters and targets. Imports nothing of the project."""
