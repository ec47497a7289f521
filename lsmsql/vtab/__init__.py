"""SQL tables on the engine: the `lsm` virtual table module and everything it is made of."""
