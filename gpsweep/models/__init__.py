"""Networks in pixel space: one file a family, each wrapped so that RGB 0–255 goes in and logits come out."""
