"""The judge: outcomes and traces come in, comparisons with verdicts go out; no tolerance is picked by hand."""
