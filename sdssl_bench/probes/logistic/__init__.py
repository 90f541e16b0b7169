"""Multinomial logistic regression on feature banks, solved to the optimum for every value of C."""
