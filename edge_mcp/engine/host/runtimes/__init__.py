"""One module per runtime behind the seam in `base`; each is imported only when a model needs it."""
