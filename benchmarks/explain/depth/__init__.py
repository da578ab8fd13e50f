"""Of the supplement: heads of one to six hidden layers, likeness to the network of task 1, one task trained little."""
