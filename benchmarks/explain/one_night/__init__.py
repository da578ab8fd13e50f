"""One simulated night as a page: spikes, rates, weights and accuracy by twentieths, the closed form beside them."""
