"""What to spend on model, video and scan time: the joint grid's tables, figures and captions.

The fits are those of `cobe.report.scaling`. What they refuse is kept as a `Refused`, which every
figure and caption takes in place of a fit and says in plain words.
"""
