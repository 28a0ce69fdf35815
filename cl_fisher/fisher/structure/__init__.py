"""How the matrix is kept. One file each."""
