"""What keeps a run alive, and what it leaves behind.

| file           | names                             | question                                                        |
|----------------|-----------------------------------|-----------------------------------------------------------------|
| `tracking`     | `Run`, `outputs_dir`, …           | where does a run write, and what did it write                   |
| `callbacks`    | `Callback`, `LiveTable`, …        | what a trainer calls at every step: a table, some completions   |
| `checkpoints`  | `Sealer`, `newest`, …             | which checkpoint is whole                                       |
| `resumable`    | `can_cut`, `check_resumable`, …   | from which steps can a run go on                                |
| `disk_room`    | `check_room`, …                   | what do the checkpoints take on the disk, and do they fit       |
| `fingerprints` | `fingerprint`, `differences`      | what makes two runs equal                                       |
| `resuming`     | `train`, `to_resume`, …           | where does a run go on, and what stands in its way              |
| `stopping`     | `Stopper`                         | a clean end before the last step: time used up, an interrupt    |
| `swanlab`      | `Follower`, `python -m …`         | how does the curve reach SwanLab without harm to the run        |
| `files`        | `replacing`, `lock`, …            | files and folders that are there whole or not at all; locks     |
"""
