-- Keyed hashes do not compress: trying costs more than the rest of a commit.
ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;
