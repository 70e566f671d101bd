"""Names, errors, folders and typed settings that every package uses; imports neither torch nor polars."""
