"""Private names of Keras, TensorFlow, Keras Tuner and Python: one function for each use.

Nothing else in the package touches a private name. A name that is gone raises with the installed
version and the use that needs it, never a default in its place: a renamed attribute that reads as
"none" would train wrongly without an error.
"""
