"""Figures 5 and 6 of the article: neurons of a class, what a night makes of their input, and who fires in noise."""
