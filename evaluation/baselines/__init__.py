"""Classical fusion methods as fusers: mean, max, Laplacian pyramid, CBF, GTF, JSRSD."""
