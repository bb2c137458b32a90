"""What the user wrote, as frozen dataclasses; every problem is reported at once.

Composite actions get no `INPUT_*` of their own: each action.yml maps its inputs to `INPUT_<NAME>`,
hyphens as underscores, and a terminal's flags become the same names. A test keeps the fields,
action.yml and the tables of the READMEs in step.
"""
