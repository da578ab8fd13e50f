"""Figure 4 of the article: how alike hidden layers answer images of the same class and of others, and how sparsely."""
