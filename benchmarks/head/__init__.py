"""The loss head of GRPO, ours and the peers', side by side in one run: `python -m benchmarks.head cpu` or `… cuda`.

| file       | what is in it                                                                       |
|------------|-------------------------------------------------------------------------------------|
| `cases`    | sizes, random inputs, and what float64 says of them                                 |
| `methods`  | every way from hidden states to the loss                                            |
| `measure`  | seconds, bytes, errors; all methods by turns                                        |
| `report`   | tables with the winners, the figure                                                 |
| `__main__` | the two commands                                                                    |

`benchmarks.peers` loads the peers from their wheels.
"""
