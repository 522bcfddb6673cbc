"""The driver behind run_all.sh: notebooks in order, checked parameters, nothing done twice."""
