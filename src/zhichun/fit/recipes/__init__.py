"""Recipes: functions that return a Recipe, one module for each family."""
