"""The errata of *Qwen3-8B GRPO with SwanLab*, row by row: its claim re-made and seen to fail, ours seen to hold.

Its rewards are re-made in our words, as small as the mistake needs; `grpo_nb.rewards` is the mended version.
"""

import ast
import dataclasses
import inspect
import re
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from test_project import pins
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BatchEncoding, PreTrainedTokenizerFast, Qwen3Config
from transformers.generation import MinPLogitsWarper, TopPLogitsWarper
from transformers.integrations import SwanLabCallback
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding
from transformers.utils.hub import build_hf_headers
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

import grpo_nb.models
from benchmarks import survival
from grpo_nb import advantages, evaluate, losses, preflight, profiles, rewards, templates
from grpo_nb.batchflow import arithmetic
from grpo_nb.rewards import parsing
from tests import reward_calls, small_runs

OPEN, CLOSE, START, END = templates.TAGS
ASK = [{"role": "user", "content": "1+1?"}]
QWEN3 = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(
    encoding="utf8"
)  # the template of Qwen3-8B
QUIET = {"report_to": "none", "bf16": False, "use_cpu": True}
# The two patterns of the document, re-made: the "exact" layout, and the first run of digits, points and commas.
LAYOUT = re.compile(rf"{CLOSE}.*?{START}(.+?){END}\s*$", re.MULTILINE | re.DOTALL)
RUN = re.compile(rf"{START}.*?(-?[\d.,]+)", re.DOTALL)


def block(solution: str) -> str:
    return f"1+1=2{CLOSE}{START}{solution}{END}"


def first_run(solution: str) -> str:
    """What the document's pattern takes for the number."""
    return RUN.search(block(solution))[1]


def text_then_quotient(guess: str, true: str) -> float:
    """The document's order of comparisons: equal texts, equal but for blanks, then a quotient, else its worst score."""
    if guess.strip() == true.strip():
        return 5.0 if guess == true else 3.5
    try:
        error = abs(float(guess) / float(true) - 1)
    except (ValueError, ZeroDivisionError):
        return -4.5
    return 2.0 if error <= 0.1 else 1.5 if error <= 0.2 else -2.5


def run_or_nothing(run: str, true: str) -> float:
    """The document's score of a run that was found: floats compared with ==, and nothing for what is no float."""
    try:
        return 3.5 if float(run.replace(",", "")) == float(true) else -1.5
    except ValueError:
        return 0.0


def total(completion: str, true: str = "2") -> float:
    """The sum of our four rewards."""
    return reward_calls.total(completion, true)


def refuses(source: str, words: str):
    """Python refuses this source, in these words."""
    with pytest.raises(SyntaxError, match=words):
        compile(source, "cell", "exec")


@pytest.fixture(scope="module")
def tokenizer(small_policy):
    return small_policy[1]


@pytest.fixture(scope="module")
def run(small_policy, tmp_path_factory):
    """Two updates of a random policy from one generation of four prompts, each completion ended by eos: the trainer,
    and what TRL called the reward with."""
    calls = []

    def noted(prompts, completions, completion_ids, **columns):
        calls.append((prompts, completions, completion_ids))
        return survival.variety(completions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(tmp_path_factory.mktemp("run")))
        eos = {"forced_eos_token_id": small_policy[1].eos_token_id}
        changes = {"max_steps": 2, "steps_per_generation": 2, "save_strategy": "no", "generation_kwargs": eos}
        trainer, _ = small_runs.trainer_of(small_policy, is_trls_own=True, reward=noted, **changes)
        calls.clear()  # of the dry run
        trainer.train()
    return SimpleNamespace(trainer=trainer, calls=list(calls))


# What it tells of reinforcement learning and of the libraries.
def test_d01_the_r_is_relative():
    assert "Group Relative Policy Optimization" in GRPOTrainer.__doc__
    assert "Generalized" not in GRPOTrainer.__doc__


def test_d03_a_function_and_a_raw_policy_are_enough(run):
    assert [type(reward) for reward in run.trainer.reward_funcs] == [type(lambda: None)]
    assert run.trainer.state.global_step == 2
    moved = [bool(weight.any()) for name, weight in run.trainer.model.named_parameters() if "lora_B" in name]
    assert any(moved)  # they were all zero


def test_d06_trl_has_no_ppo():
    assert "GRPOTrainer" in dir(trl) and not [name for name in dir(trl) if name.startswith("PPO")]
    assert find_spec("trl.experimental.online_dpo") and find_spec("trl.experimental.ppo") is None


def test_d08_an_install_line_is_no_python_and_its_pins_are_old():
    refuses("pip install unsloth==2025.3.19 vllm==0.8.2", "invalid syntax")
    assert pins("gpu")["unsloth"] != "2025.3.19" and pins("gpu")["vllm"] != "0.8.2"


def test_d09_the_checkpoint_has_a_template_of_its_own():
    for part in ("<|im_start|>", "<think>", "enable_thinking"):
        assert part in QWEN3 and part not in templates.chat_template()


def test_d10_alpha_scales_the_update_and_saves_nothing():
    made = {}
    for alpha in (8, 16):
        net = torch.nn.Sequential(torch.nn.Linear(4, 4))
        made[alpha] = get_peft_model(net, LoraConfig(r=8, lora_alpha=alpha, target_modules=["0"]))
    assert [m.base_model.model[0].scaling["default"] for m in made.values()] == [1.0, 2.0]
    sizes = {alpha: [weight.shape for weight in m.parameters()] for alpha, m in made.items()}
    assert sizes[8] == sizes[16]  # the same products: no step is faster


def test_d11_the_checkpoint_thinks_without_another_template(tokenizer):
    options = {"chat_template": QWEN3, "tokenize": False, "add_generation_prompt": True}
    assert tokenizer.apply_chat_template(ASK, enable_thinking=True, **options).endswith("assistant\n")
    off = tokenizer.apply_chat_template(ASK, enable_thinking=False, **options)
    assert off.endswith("<think>\n\n</think>\n\n")  # thinking has to be switched off


# The template.
def test_d12_nothing_may_follow_a_continuation():
    refuses('x = "a" \\  # first\n    "b"', "unexpected character after line continuation")
    assert isinstance(templates.chat_template(), str)


def test_d13_an_apostrophe_breaks_a_pasted_literal():
    prompt = "Don't guess."
    with pytest.raises(jinja2.TemplateSyntaxError):
        jinja2.Template("{{ '" + prompt + "' }}")
    assert jinja2.Template(templates.chat_template(prompt)).render(messages=ASK, eos_token="¶") == f"{prompt}¶1+1?"


def test_d14_tags_run_together_ask_for_an_empty_solution():
    literal = f"{CLOSE}{START}{END}"  # a policy that does as it is told
    assert LAYOUT.search(literal) is None and rewards.match_format_exactly([literal]) == [0.0]
    assert f"{START} and {END}" in templates.SYSTEM_PROMPT and START + END not in templates.SYSTEM_PROMPT


def test_d15_two_conversations_make_one_prompt(tokenizer):
    def turns(user, assistant):
        return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]

    def render(template):
        made = [turns("1+1?", "2"), turns("1+1?2", "")]
        return [tokenizer.apply_chat_template(each, chat_template=template, tokenize=False) for each in made]

    alike, apart = render(templates.chat_template("Add.")), render(QWEN3)
    assert alike[0] == alike[1] and apart[0] != apart[1]


# The rows.
def test_d16_a_label_is_no_position():
    table = Dataset.from_list([{"answer": "x"}, {"answer": "7"}]).to_pandas()
    kept = table.iloc[[1]]
    with pytest.raises(KeyError):
        kept["answer"][0]
    assert kept["answer"].iloc[0] == "7"


def test_d17_the_length_of_a_template_is_two(tokenizer):
    long = [{"role": "user", "content": "1+1? " * 100}]
    assert [len(tokenizer.apply_chat_template(messages)) for messages in (ASK, long)] == [2, 2]
    assert len(tokenizer.apply_chat_template(long, return_dict=False)) > 100


def test_d18_filtered_rows_bring_their_index():
    table = Dataset.from_list([{"n": n} for n in range(4)]).to_pandas()
    kept = table[table["n"] != 1]
    assert Dataset.from_pandas(kept).column_names == ["n", "__index_level_0__"]
    assert Dataset.from_pandas(kept, preserve_index=False).column_names == ["n"]


# SFT.
def test_d19_the_tokenizer_is_a_processing_class():
    with pytest.raises(TypeError, match="unexpected keyword argument 'tokenizer'"):
        SFTTrainer(model=None, tokenizer=None)
    assert "processing_class" in inspect.signature(SFTTrainer).parameters


def test_d20_every_process_multiplies_the_batch():
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 4}
    counts = [arithmetic.batch_numbers(settings, num_processes=n)["completions_per_update"] for n in (1, 2, 4)]
    assert counts == [4 * 2, 4 * 2 * 2, 4 * 2 * 4]


def test_d21_a_text_column_trains_on_the_prompt_and_is_cut(small_policy, tmp_path):
    policy, tokenizer, _ = small_policy
    rows = Dataset.from_list([{"text": "7 " * 900}])
    args = SFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=1, **QUIET)
    own = grpo_nb.models.own_copy(policy)
    trainer = SFTTrainer(model=own, args=args, processing_class=tokenizer, train_dataset=rows)
    [labels] = next(iter(trainer.get_train_dataloader()))["labels"]
    assert len(tokenizer(rows[0]["text"])["input_ids"]) > 1024 == args.max_length == len(labels)
    assert (labels != -100).all()


def test_d22_temperature_zero_is_refused(small_policy):
    policy, ids = small_policy[0], torch.tensor([[5, 6]])
    with pytest.raises(ValueError, match="strictly positive float"):
        policy.generate(ids, temperature=0, do_sample=True, max_new_tokens=1)
    greedy = policy.generate(ids, do_sample=False, max_new_tokens=1)
    assert greedy[0, -1] == policy(ids).logits[0, -1].argmax()


def test_d23_a_rendered_text_gets_a_second_bos():
    words = Tokenizer(models.WordLevel({"<s>": 0, "a": 1}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
    tokenizer.chat_template = "{{ bos_token }} {{ messages[0]['content'] }}"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert tokenizer(text)["input_ids"] == [0, 0, 1]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == [0, 1]


def test_d24_rows_of_prompts_are_no_sft_rows(small_policy, run, tmp_path):
    policy, tokenizer, _ = small_policy
    args = SFTConfig(output_dir=str(tmp_path), **QUIET)
    rows = Dataset.from_list([{"prompt": ASK, "answer": "2"}])
    with pytest.raises(KeyError, match="completion"):
        SFTTrainer(model=policy, args=args, processing_class=tokenizer, train_dataset=rows)
    assert {"prompt", "answer"} <= set(run.trainer.train_dataset.column_names)


# The layout.
def test_d25_no_reward_sees_the_end_token(run, tokenizer):
    assert tokenizer.eos_token == grpo_nb.models.END_OF_TURN == "<|im_end|>" and "<|endoftext|>" not in QWEN3
    [(_, completions, ids)] = run.calls
    assert all(of_one[-1] == tokenizer.eos_token_id for of_one in ids)
    assert not any(tokenizer.eos_token in completion[0]["content"] for completion in completions)


def test_d26_nothing_may_follow_a_continuation_in_a_pattern_either():
    refuses('x = (rf"a" \\  # end tag\n    rf"b")', "unexpected character after line continuation")
    assert len(ast.parse('x = (rf"a"  # end tag\n    rf"b")').body) == 1  # brackets need no backslash


def test_d27_a_group_keeps_its_blanks():
    assert LAYOUT.findall(block("  2  ")) == ["  2  "] != ["2"]
    assert parsing.solution(block("  2  ")) == "  2  " and parsing.number("  2  ") == 2


def test_d28_a_dollar_ends_at_any_line():
    two = f"{CLOSE}{START}1{END} b {START}2{END}"
    assert LAYOUT.search(block("2") + "\njunk") and LAYOUT.search(two)[1] == f"1{END} b {START}2"
    assert rewards.match_format_exactly([block("2") + "\njunk", two, block("2")]) == [0.0, 0.0, 3.0]


def test_d29_the_opening_tag_is_not_looked_for():
    texts = [block("2"), f"{OPEN}a{OPEN}{block('2')}"]
    assert all(LAYOUT.search(text) for text in texts)
    assert rewards.match_format_exactly(texts) == [3.0, 0.0]  # the prompt has opened the working-out, once


def test_d30_counts_do_not_see_the_order():
    backwards = END + START + CLOSE
    assert sum(0.5 if backwards.count(tag) == 1 else -1.0 for tag in (CLOSE, START, END)) == 1.5
    assert rewards.match_format_approximately([backwards, block("2"), ""]) == [-3.0, 1.5, -3.0]


# The answer.
def test_d31_the_first_prompt_speaks_for_a_quarter_of_the_batch(run):
    [(prompts, completions, _)] = run.calls
    questions = [prompt[-1]["content"] for prompt in prompts]
    assert len(questions) == len(completions) == 16
    assert questions.count(questions[0]) == 4


def test_d32_an_unreadable_answer_cost_more_than_no_format():
    assert text_then_quotient("dunno", "2") < -2.0
    assert rewards.check_answer([block("dunno"), "dunno"], ["2", "2"]) == [-2.5, -4.5]


def test_d33_equal_values_are_right():
    assert text_then_quotient("2.0", "2") == 2.0
    assert rewards.check_answer([block("2.0")], ["2"]) == [5.0]


def test_d34_a_quotient_cannot_have_the_truth_below_it():
    assert text_then_quotient("0.0", "0") == text_then_quotient("1,000", "1000") == -4.5
    assert rewards.check_answer([block("0.0"), block("1,000")], ["0", "1000"]) == [5.0, 5.0]


def test_d35_nearly_right_is_wrong_where_answers_are_exact():
    assert text_then_quotient("95", "100") == 2.0
    assert not evaluate.is_correct(block("95"), "100") and total(block("95"), "100") == 5.0


def test_d36_a_bare_except_catches_whatever_comes():
    scope = {"interrupt": KeyboardInterrupt, "score": None}
    exec("try:\n    raise interrupt\nexcept:\n    score = 0", scope)
    assert scope["score"] == 0
    with pytest.raises(TypeError, match="a true answer must be text"):
        rewards.check_numbers([block("2")], [None])


def test_d37_the_first_run_is_not_the_number():
    cases = {"Therefore, x = 5": (",", 5), "- 5": ("5", -5), "\u22125": ("5", -5), "3/4": ("3", "3/4")}
    for solution, (run, true) in cases.items():
        assert first_run(solution) == run and rewards.check_numbers([block(solution)], [str(true)]) == [3.5]
    assert RUN.search(f"{block('none')} see 42")[1] == "42" and first_run("\u0665") == "\u0665"
    assert rewards.check_numbers([f"{block('none')} see 42", block("\u0665")], ["42", "5"]) == [-2.5, -2.5]
    assert first_run("x=10-7=3") == "10" and rewards.check_numbers([block("x=10-7=3")], ["10"]) == [-1.5]


def test_d38_a_truth_with_a_comma_silenced_the_group():
    guesses = ["1000", "7", "1,000", "8"]
    theirs = torch.tensor([[run_or_nothing(guess, "1,000") for guess in guesses]])
    assert not theirs.any() and not advantages.group_advantages(theirs).any()
    assert rewards.check_numbers([block(guess) for guess in guesses], ["1,000"] * 4) == [3.5, -1.5, 3.5, -1.5]


def test_d39_garbage_was_better_than_a_wrong_number():
    assert run_or_nothing(first_run("So, it is"), "5") == 0.0 > run_or_nothing(first_run("4"), "5") == -1.5
    assert rewards.check_numbers([block("So, it is"), block("4")], ["5", "5"]) == [-2.5, -1.5]


def test_d40_floats_are_not_compared_with_equals():
    assert run_or_nothing(str(0.1 + 0.2), "0.3") == -1.5
    assert rewards.check_numbers([block(str(0.1 + 0.2))], ["0.3"]) == [3.5]


def test_d41_a_counter_of_calls_counts_no_steps(run):
    declared, plain = {}, {}
    exec("global n\nn = 0", declared)
    exec("n = 0", plain)
    assert declared.keys() == plain.keys() and declared["n"] == plain["n"]  # outside a function it says nothing
    assert (len(run.calls), run.trainer.state.global_step) == (1, 2)


# GRPO.
def test_d42_a_batched_map_takes_no_batch_encoding(tokenizer):
    rows = Dataset.from_list([{"prompt": ASK}, {"prompt": ASK}])
    with pytest.raises(TypeError, match="BatchEncoding"):
        rows.map(lambda row: {"ids": tokenizer.apply_chat_template(row["prompt"])}, batched=True)
    made = rows.map(lambda row: {"ids": tokenizer.apply_chat_template(row["prompt"], return_dict=False)}, batched=True)
    assert made[1]["ids"] == tokenizer.apply_chat_template(ASK, return_dict=False)


def test_d43_the_ids_come_in_a_dictionary(tokenizer):
    made = tokenizer.apply_chat_template(ASK, tokenize=True)
    assert isinstance(made, BatchEncoding) and not isinstance(made, list)
    assert made["input_ids"] == tokenizer.apply_chat_template(ASK, return_dict=False)


def test_d44_there_is_no_prompt_length(tmp_path, unsloth):
    with pytest.raises(TypeError, match="max_prompt_length"):
        GRPOConfig(output_dir=str(tmp_path), max_prompt_length=128, **QUIET)
    with pytest.raises(ValueError, match=r"filter the rows with data\.keep_short"):
        preflight.check_keys({"max_prompt_length": 128}, GRPOConfig)
    assert '"max_prompt_length": ("filter overlong prompts' in unsloth["unsloth/models/rl_config_compat.py"]


def test_d45_min_p_is_a_share_of_the_likeliest():
    def kept(warper, shares):
        return int(warper(None, torch.tensor([shares]).log()).isfinite().sum())

    peaked, flat = [0.6, 0.25, 0.1, 0.05], [0.1] * 10
    assert [kept(MinPLogitsWarper(0.2), shares) for shares in (peaked, flat)] == [2, 10]  # p ≥ 0.12, p ≥ 0.02
    assert [kept(TopPLogitsWarper(0.2), shares) for shares in (peaked, flat)] == [1, 2]  # mass 0.2: the nucleus


def test_d46_the_seed_is_dropped(unsloth):
    class Sampling:
        def __init__(self, seed=None, min_p=0.0):
            self.seed, self.min_p = seed, min_p

    tree = ast.parse(unsloth["unsloth/models/rl_replacements.py"])
    name, scope = "grpo_update_SamplingParams", {"inspect": inspect}
    [function] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    exec(ast.unparse(function), scope)
    assert scope[name](Sampling, {}, Sampling(seed=3407, min_p=0.1)) == {"min_p": 0.1}
    fields = {field.name for field in dataclasses.fields(GRPOConfig)}
    assert "seed" in fields and "vllm_sampling_params" not in fields


def test_d47_a_truncated_sampler_is_another_policy():
    whole = torch.tensor([[0.9, 0.06, 0.04]]).log()
    cut = MinPLogitsWarper(0.1)(None, whole).log_softmax(-1)
    assert cut.exp().tolist() == [[1.0, 0.0, 0.0]]
    twenty = [logps[:, :1].expand(1, 20) for logps in (whole, cut)]
    ratio = losses.sampling_ratio(*twenty, torch.ones(1, 20), mode="sequence_mask")
    torch.testing.assert_close(ratio, torch.tensor([[0.9**20]]))  # 0.12: not the policy that is scored
    assert GRPOConfig.min_p is None


def test_d48_the_warm_up_is_in_steps(tmp_path, unsloth):
    with pytest.raises(TypeError, match="warmup_ratio"):
        GRPOConfig(output_dir=str(tmp_path), warmup_ratio=0.1, **QUIET)
    assert GRPOConfig(output_dir=str(tmp_path), warmup_steps=0.1, **QUIET).get_warmup_steps(100) == 10
    namespace, said = {}, []
    exec(compile(unsloth["unsloth/models/rl_config_compat.py"], "rl_config_compat", "exec"), namespace)
    kept = namespace["filter_config_init_kwargs"](GRPOConfig, {"warmup_ratio": 0.1}, notify=said.append)
    assert kept == {"warmup_steps": 0.1} and "renamed `warmup_ratio` to `warmup_steps`" in said[0]


def test_d49_one_completion_is_no_group_of_four(tmp_path, unsloth):
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_generations": 4}
    with pytest.raises(ValueError, match=r"generation_batch_size \(1\) must be divisible by num_generations \(4\)"):
        GRPOConfig(output_dir=str(tmp_path), **batch, **QUIET)
    with pytest.raises(ValueError, match="per_device_train_batch_size = 4"):
        arithmetic.batch_numbers(batch, num_processes=1)
    assert "per_device_train_batch_size = num_generations" in unsloth["unsloth/models/rl.py"]


def test_d50_four_completions_are_one_prompt():
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "num_generations": 4}
    numbers = arithmetic.batch_numbers(batch, num_processes=1)
    assert (numbers["completions_per_update"], numbers["unique_prompts"]) == (4, 1)


def test_d51_larger_groups_make_no_larger_batch(tmp_path):
    sizes, prompts = set(), []
    for group in (2, 4, 8):
        batch = {"per_device_train_batch_size": 8, "num_generations": group}
        config = GRPOConfig(output_dir=str(tmp_path), **batch, **QUIET)
        sizes.add((config.per_device_train_batch_size, config.generation_batch_size))
        prompts.append(arithmetic.batch_numbers(batch, num_processes=1)["unique_prompts"])
    assert sizes == {(8, 8)} and prompts == [4, 2, 1]


def test_d52_a_bracket_that_is_not_closed():
    refuses("args = dict(\n    max_steps=100,\n", "was never closed")
    assert profiles.current("a100").grpo["max_steps"] == 100


def test_d53_the_loss_is_zero_whatever_is_learned():
    mask, found = torch.ones(4, 3), []
    for scored in ([13.0, -10.0, -10.0, -10.0], [13.0, 13.0, 13.0, -10.0]):
        logps = torch.full((4, 3), -1.0, requires_grad=True)
        group = advantages.group_advantages(torch.tensor([scored])).flatten()
        loss = losses.grpo_loss(logps, group, mask).loss
        loss.backward()
        found.append((round(loss.item(), 6) + 0.0, bool(logps.grad.abs().sum() > 0.1)))
    assert found == [(0.0, True), (0.0, True)]  # the mean reward went from -4.25 to 7.25


def test_d54_the_layout_outweighs_the_answer():
    assert total(block("2")) == 13.0
    assert total(block("3")) == 3 + 1.5 - 2.5 - 1.5 > total("2") == -10.0  # wrong in the layout, right without
    assert (0 - 3 - 2 - 2.5) < 3 + 1.5 - 2.5 - 1.5  # the document's own scores of the two
    assert "reward_weights" in {field.name for field in dataclasses.fields(GRPOConfig)}


# After the training.
def test_d55_one_sample_shows_nothing():
    right, wrong = evaluate.wilson_interval(1.0, 1), evaluate.wilson_interval(0.0, 1)
    assert right[0] < wrong[1]  # the two intervals overlap: 0.21 to 1, 0 to 0.79
    assert evaluate.wilson_interval(1.0, 64)[0] > evaluate.wilson_interval(0.0, 64)[1]


def test_d57_merged_4bit_has_to_be_forced(unsloth):
    tree = ast.parse(unsloth["unsloth/save.py"])
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise)]
    refused = [node for node in tests if ast.unparse(node.test) == "save_method == 'merged_4bit'"]
    assert len(refused) == 2  # of a fast and of any model
    assert all("RuntimeError" in ast.unparse(node) and "merged_4bit_forced" in ast.unparse(node) for node in refused)


def test_d58_an_empty_token_is_sent_as_it_is(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert build_hf_headers(token="")["authorization"] == "Bearer "  # not what the environment holds
    assert build_hf_headers(token=None)["authorization"] == "Bearer hf_x"


# SwanLab.
def test_d60_the_callback_asks_for_a_run_before_there_is_one(tmp_path, monkeypatch):
    import swanlab

    monkeypatch.chdir(tmp_path)
    args = GRPOConfig(output_dir=str(tmp_path), **{**QUIET, "report_to": "swanlab"})
    callback, state = SwanLabCallback(), SimpleNamespace(is_world_process_zero=True, trial_name=None)
    with pytest.raises(RuntimeError, match=r"Call swanlab\.init\(\) first"):
        callback.setup(args, state, None)
    swanlab.init(mode="disabled")
    try:
        callback.setup(args, state, None)
    finally:
        swanlab.finish()


def test_d61_the_run_needs_names(tmp_path, monkeypatch):
    import swanlab

    seen, state = [], SimpleNamespace(is_world_process_zero=True, trial_name=None)
    for names in ({}, {"run_name": "grpo-seed0"}):
        callback = SwanLabCallback()
        callback._swanlab = SimpleNamespace(get_run=lambda: None, init=lambda **given: seen.append(given), config={})
        callback.setup(GRPOConfig(output_dir=str(tmp_path), **names, **QUIET), state, None)
    assert seen == [{"project": None}, {"experiment_name": "grpo-seed0", "project": None}]
    monkeypatch.setenv("SWANLAB_PROJECT", "course")  # what the callback reads, and SwanLab itself cannot
    with pytest.raises(ValueError, match='error parsing value for field "project"'):
        swanlab.init(mode="disabled")


def test_d62_full_eval_halves_the_weights_or_does_nothing(small_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, _ = small_runs.trainer_of(small_policy, is_trls_own=True)
    trainer.args.fp16_full_eval, found = True, []
    for trainer.is_in_train in (True, False):  # as eval_strategy evaluates, and as a call of evaluate() does
        trainer.evaluate(trainer.train_dataset.select(range(1)))
        found.append({weight.dtype for weight in trainer.model.parameters()})
    assert found == [{torch.float32}, {torch.float16}]


def test_d70_yarn_turns_every_position_otherwise():
    shape = {"head_dim": 128, "hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 2}
    native = Qwen3Config(**shape, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    yarn = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768}
    longer = Qwen3Config(**shape, max_position_embeddings=131072, rope_parameters=yarn)
    assert native.max_position_embeddings * 4 == longer.max_position_embeddings, "32,768 is Qwen3's native length"
    plain, scaled = map(Qwen3RotaryEmbedding, (native, longer))
    x, positions = torch.zeros(1, 1), torch.tensor([[0, 1, 100]])
    assert not any(
        torch.isclose(*cosines).all()
        for cosines in zip(plain(x, positions)[0][0], scaled(x, positions)[0][0], strict=True)
    )


def test_d71_the_weights_leave_two_gb():
    assert 17.5 - 30.5e9 / 2 / 1e9 == pytest.approx(2.25)
