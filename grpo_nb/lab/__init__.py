"""The bench: predict, train a small policy in two ways, compare.

    lab.experiment({"num_generations": 2}, {"num_generations": 16})

| file          | question                                                                             |
|---------------|--------------------------------------------------------------------------------------|
| `arms`        | which run does a dict of differences ask for, and is it one that was asked before    |
| `training`    | train one arm with one seed, or go on with it, or read what it left; what to measure |
| `records`     | which arms were trained before this series was published, and what came out          |
| `differences` | are two arms different, or is it noise: interval and rule                            |
| `results`     | the arms of an experiment as figure, table and verdict                               |
| `experiments` | all of it in one call                                                                |
"""

from grpo_nb.lab.experiments import experiment
from grpo_nb.lab.records import recorded
