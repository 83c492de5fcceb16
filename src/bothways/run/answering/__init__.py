"""What a model is asked, a file a kind of question: from texts to answers, through its heads.

`bothways.run.questions` has a method for each; the functions here are what the methods do.
"""
