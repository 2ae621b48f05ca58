"""The configuration's attrs classes and the strict reading of plain values into them; no files here."""
