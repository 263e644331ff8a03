[
  inputs: ["{mix,.formatter}.exs", "{config,lib,tasks,test}/**/*.{ex,exs}"]
]
