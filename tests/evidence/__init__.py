"""What stands behind sentences of results/DLSR.md that no suite measures: programs that are run by hand."""
