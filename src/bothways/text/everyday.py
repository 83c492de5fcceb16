"""Short sentences as people write them, made by a small grammar: captions, news, questions, names and numbers.

Documentation, which every Python brings, is technical prose of one kind. What a model makes of everyday sentences is
another thing, so whatever is tried on texts is tried on some of these as well.
"""

from __future__ import annotations

import re

import numpy as np

from bothways.chance import generator

_WORDS = {
    "who": "a man|a woman|two girls|three men|a young boy|the little dog|my sister|an old lady|the crowd|a small child",
    "doing": "playing the guitar|riding a horse|slicing an onion|talking on the phone|running through the snow|asleep"
    "|cooking rice|dancing|reading a newspaper|jumping into a pool|climbing a rock|peeling potatoes|laughing|singing",
    "where": "in the park|on the beach|at home|beside a river|in the kitchen|on a bus|near the church|under a tree",
    "did": "bought|lost|painted|broke|found|sold|cleaned|forgot|borrowed|photographed",
    "what": "a red bicycle|the keys|fresh bread|a wooden table|an umbrella|two tickets|the last piece of cake|a kitten",
    "when": "yesterday|this morning|last summer|in 1987|on Monday|at half past six|before breakfast|every winter",
    "name": "Maria Lopez|John Smith|Dr. Okafor|Anna|Ravi Patel|Mrs. Chen|Omar|Ingrid Berg|President Silva|O'Neill",
    "place": "Paris|New Delhi|Ohio|Kyoto|Cairo|São Paulo|the Alps|Lake Victoria|Warsaw|London",
    "group": "the bank|the union|police|the airline|Acme Corp.|the ministry|scientists|the home team|parliament",
    "news": "cut prices by 4.5 percent|won 3-1|reported a loss of $12.7 million|rejected the offer|arrested 14 people"
    "|opened a new school|warned of floods|raised its forecast for 2024|signed the treaty|closed the road",
    "feeling": "boring|wonderful|too long|the best film of the year|a waste of money|funny and sad at once|not bad"
    "|dreadful|charming",
    "number": "3|17|250|4,096|0.5|1,250,000|99|12.30",
    "unit": "miles|euros|people|degrees|minutes|kg|percent|votes",
    "plain": "yes|no|thanks|hello|ok|why not|see you soon|!!!|N/A|C++|42|https://example.org/a?b=c|info@example.org",
}
_FORMS = (
    *("{who} is {doing}.", "{who} is {doing} {where}.", "{who} {did} {what} {when}.", "{who} and {who} are {doing}."),
    *("{group} {news} {when}.", "{group} in {place} {news}.", "{name} said {group} {news}.", "{name}, {place}"),
    *("how many {unit} is it from {place} to {place}?", "who {did} {what} {where}?", "what is the capital of {place}?"),
    *("can {name} come to {place} {when}?", "why is {who} {doing}?", "{number} {unit}", "{name} {did} {what}"),
    *("it was {feeling}.", "I thought it was {feeling}, and {who} {did} {what}.", "{plain}", "{name}: {plain}"),
    "{place} is {number} {unit} from {place}; {name} {did} {what} there {when}, but {who} was {doing}.",
)
_GAP = re.compile(r"{(\w+)}")


def everyday_sentences(count: int) -> list[str]:
    """Short English texts of 1 to about 25 words, the same on every call.

    Args:
        count: How many.
    """
    draw = generator("everyday sentences", 0)
    return [_sentence(_FORMS[place % len(_FORMS)], draw) for place in range(count)]


def _sentence(form: str, draw: np.random.Generator) -> str:
    def word(gap: re.Match[str]) -> str:
        known = _WORDS[gap[1]].split("|")
        return known[int(draw.integers(len(known)))]

    made = _GAP.sub(word, form)
    return made if form.startswith("{plain}") else made[0].upper() + made[1:]
