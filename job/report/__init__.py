"""The side-by-side page: answers of several runs to the same rows, in one HTML file that needs nothing else.

- sources: references -> results folders on this machine, from the Hub where they are there
- runs: run.json -> what the report needs of it; the names of the runs
- comparison: which settings differ, and whether the comparison is like for like
- figures: what one run came to: rows, tokens, lengths, speed
- rows: parquet -> rows of all runs, matched by position
- pages: rows -> pages that a browser reads one at a time, and an index that it filters by
- page: all of it -> the HTML, from the files in static/
- writing: the order of work; __main__: the command
"""
