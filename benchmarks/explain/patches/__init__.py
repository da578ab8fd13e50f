"""Figure 1 of Tadros et al. 2022: four binary images that overlap, learnt two at a time by one layer of weights."""
