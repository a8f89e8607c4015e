"""A reward program for grpo.rewards: {command: "python3 recipes/rewards/concise_answer.py", name: concise_answer}.

Change `reward` and keep the rest: it is the protocol of docs/rewards.md, and needs nothing but Python. Standard output belongs to the protocol; print what
you want to see to standard error, which goes to a log in the run's folder.
"""
import json
import sys


def reward(prompt, completion, completion_ids, columns):
    """A number for one completion, or None where there is nothing to judge. `prompt` is text or a list of messages, `columns` holds the other columns of
    the row. Here: 1 if the last line names the row's answer, less 0.01 for each word over 50, but never below 0.
    """
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    if columns.get("answer") is None:
        return None
    lines = text.strip().splitlines() or [""]
    if str(columns["answer"]) not in lines[-1].split():
        return 0.0
    return max(0.0, 1.0 - 0.01 * max(0, len(text.split()) - 50))


def main():
    print(json.dumps({"protocol": 1, "name": "concise_answer"}), flush=True)
    for line in sys.stdin:  # one request a line; the end of the input is the end of the run
        request = json.loads(line)
        columns = request["columns"]
        rewards = [
            reward(prompt, completion, ids, {name: values[i] for name, values in columns.items()})
            for i, (prompt, completion, ids) in enumerate(zip(request["prompts"], request["completions"], request["completion_ids"]))
        ]
        print(json.dumps({"id": request["id"], "rewards": rewards}), flush=True)


main()
