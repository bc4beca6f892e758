"""Predict: acceptance and cost, measured apart, become a speedup with an interval."""
