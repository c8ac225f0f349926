"""What steps know of text: markup, lines of web pages, languages, measures of quality, words of hate and abuse."""
