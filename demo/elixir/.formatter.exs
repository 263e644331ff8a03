[inputs: ["mix.exs", "config/*.exs", "lib/**/*.ex"], line_length: 110]
