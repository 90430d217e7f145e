"""Controls ↔ a function of the package ↔ a figure: one idea per file, to be turned by hand.

| file          | question                                                                                      |
|---------------|-----------------------------------------------------------------------------------------------|
| `panel`       | (what the others share: named controls, presets, a picture that stays when no kernel runs)    |
| `group`       | what advantages do these rewards give?                                                        |
| `dead_groups` | how often do all completions of a prompt earn the same, so that nothing is learned?           |
| `clipping`    | what does a token add to the objective, and which gradient, at this ratio to the old policy?  |
| `levels`      | ratio of each token or of the sequence, and what is done with ratios that are too large       |
| `lengths`     | how much does a token weigh in a short and in a long answer?                                  |
| `kl`          | what do the three estimates of the KL divergence say, and how hard do they pull?              |
| `sampling`    | what do temperature, top-p, top-k, min-p and the repetition penalty leave of a distribution?  |
| `batch_flow`  | which completion trains when, and on which process?                                           |
| `card`        | which terms fill a card's memory, and which cards hold a run?                                 |
| `experiment`  | does this setting matter? (a button: two values of it are trained, or taken from the record)  |

Each file but the first and the last has four functions: `compute(...)` → numbers, `figure(numbers)` → Figure,
`caption(numbers)` → what it shows, in words, and `explorer()` → a `Panel` of the three, the last expression of a cell.
`figure` takes its empty axes from `frame`, so that a panel can hand it those of the last picture. Import the file,
`from grpo_nb.explorers import clipping`, for importing the package alone loads no torch.
"""
