"""What a policy can do: held-out problems before and after training, and what got worse beside them.

| file         | functions                                              | question                                     |
|--------------|--------------------------------------------------------|----------------------------------------------|
| `sampling`   | `completions`, `stream`, `apart`, `evaluation_mode`    | what does the policy write after a prompt    |
| `judging`    | `accuracy`, `shares`, `is_correct`, `wilson_interval`  | how much of it is right, and well formed     |
| `forgetting` | `general`, `perplexity`, `kl_to_base`, `QUESTIONS`     | what did it know before, and knows no longer |

Measuring changes nothing: the policy's mode and all random states are afterwards as before.
"""

from grpo_nb.evaluate.forgetting import PROSE, QUESTIONS, general, kl_to_base, perplexity
from grpo_nb.evaluate.judging import accuracy, is_correct, shares, wilson_interval
from grpo_nb.evaluate.sampling import apart, completions, evaluation_mode, stream
