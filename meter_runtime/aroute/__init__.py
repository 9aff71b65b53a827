"""What is spoken with the utility: sealed commands down, signed results and readings up."""
