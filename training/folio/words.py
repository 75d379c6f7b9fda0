"""The closed word lists of Folio's little world. No grammar here: see grammar.py."""

# ruff: noqa: SIM905  (a line of words reads better than a column of quotes)

WORDS = (
    "apple anchor arrow autumn basket bell bird boat bread bridge candle castle chair cloud copper corn "
    "desk door dragon drum eagle echo egg engine feather fern field flute forest garden gate glass goat grape "
    "hammer harbor hat hill honey ice ink island iron jacket jar jungle kettle king kite ladder lamp leaf lemon "
    "map marble milk mirror moon needle nest night oak ocean olive onion orange paper pear pencil piano queen quilt "
    "rain ribbon river rose salt ship silver spoon stone table tiger tower train umbrella uncle valley vase violin "
    "wagon water wheel window winter wolf yard yellow zebra zinc"
).split()

NAMES = (
    "Adam Alice Anna Ben Bruno Carla Clara Daniel David Elena Emma Felix Fiona George Greta Hanna Hugo Ida Ivan "
    "Jack Julia Karl Kira Laura Leo Lucy Maria Max Mia Nina Noah Olga Oscar Paul Petra Rosa Ruth Sam Sara Simon "
    "Sofia Theo Tom Uma Vera Victor Walter Wendy Yara Zoe"
).split()

ANIMALS = "fox bear owl rabbit wolf mouse horse frog cat dog duck goat tiger swan deer".split()
COLOURS = "red blue green yellow black white orange purple brown grey pink".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBER_NAMES = "zero one two three four five six seven eight nine ten eleven twelve".split()

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Austria": "Vienna", "Poland": "Warsaw", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Ireland": "Dublin", "Belgium": "Brussels",
    "Hungary": "Budapest", "England": "London", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi",
    "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa", "Mexico": "Mexico City", "Cuba": "Havana",
    "Peru": "Lima", "Chile": "Santiago", "Russia": "Moscow", "Turkey": "Ankara", "Ukraine": "Kyiv",
    "Australia": "Canberra",
}  # fmt: skip

THING_COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a lemon": "yellow", "blood": "red",
    "chocolate": "brown", "a ripe tomato": "red", "milk": "white", "an elephant": "grey", "a flamingo": "pink",
    "a carrot": "orange", "a banana": "yellow", "a frog": "green", "the sea": "blue", "a plum": "purple",
}  # fmt: skip

OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "day": "night", "open": "closed", "old": "new",
    "long": "short", "full": "empty", "wet": "dry", "light": "dark", "good": "bad", "early": "late", "left": "right",
    "loud": "quiet", "hard": "soft", "happy": "sad", "high": "low", "first": "last", "rich": "poor",
}  # fmt: skip

PLURALS = {
    "cat": "cats", "dog": "dogs", "book": "books", "box": "boxes", "child": "children", "mouse": "mice",
    "foot": "feet", "tooth": "teeth", "man": "men", "woman": "women", "leaf": "leaves", "city": "cities",
    "baby": "babies", "page": "pages", "goose": "geese", "sheep": "sheep", "knife": "knives", "bus": "buses",
    "token": "tokens", "story": "stories",
}  # fmt: skip

CITIES = sorted(set(CAPITALS.values()) - {"New Delhi", "Mexico City"})
