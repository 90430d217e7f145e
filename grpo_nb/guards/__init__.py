"""What TRL lets pass: bad rewards, bad gradients, broken weights, and a run that learns nothing.

| file       | what it watches                                                                            |
|------------|--------------------------------------------------------------------------------------------|
| `scores`   | the rewards while the policy trains: raising, not finite, absurd, none at all              |
| `updates`  | the gradient before the optimizer applies it, the weights before the policy samples        |
| `signals`  | the logs: constant reward, zero gradient, entropy at ln V, everything truncated, NaN loss  |
| `movement` | the trained tensors: none is trainable, or no update changes a bit of them                 |
| `watch`    | the policies, stop or skip and count, and what was found                                   |

Under "stop" a finding ends the run with a `ValueError` that names the step and the reward or the tensor. Nothing here
changes a healthy run: no random number is drawn, no reward and no gradient is touched.
"""

from grpo_nb.guards.watch import POLICIES, Watch, watch_of
