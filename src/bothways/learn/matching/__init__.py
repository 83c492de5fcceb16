"""What is learned where queries and texts are compared word by word: sparse vectors and late interaction."""
