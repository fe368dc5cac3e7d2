"""Archives for users, made of export packages: for phones, for boards, for containers.

They are made from the zip of a package alone; no model is loaded.
"""
