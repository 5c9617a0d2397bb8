/**
 * A click on a part of the text, as the page Make shows them below the text box, selects it in the box.
 *
 * Parts are known by their tokens, which have neither spaces nor capitals. So the box is searched without these, from the
 * first part on, as far as the one that was clicked.
 */
class EmbedMergeSelecting {
    static CHIPS = "#embedmerge_answer .embedmerge-chip";

    constructor() {
        document.addEventListener("click", (event) => {
            const chip = event.target.closest?.(EmbedMergeSelecting.CHIPS);
            if (chip) {
                this.#select(chip);
            }
        });
    }

    #select(chip) {
        const box = document.querySelector("#embedmerge_source textarea, #embedmerge_source input");
        const place = box && this.#findPlace(box.value, [...document.querySelectorAll(EmbedMergeSelecting.CHIPS)], chip);
        if (place) {
            box.focus();
            box.setSelectionRange(...place);
        }
    }

    /** Where the text of a chip is, [start, end], or null if the box spells it in another way. */
    #findPlace(source, chips, wanted) {
        if (chips.length === 1) {
            return [0, source.length];
        }
        const { text, places } = this.#fold(source);
        let end = 0;
        for (const chip of chips) {
            const part = this.#fold(chip.dataset.embedmergeText ?? chip.querySelector(".embedmerge-chip-text").textContent);
            const start = part.text ? text.indexOf(part.text, end) : -1;
            if (start >= 0) {
                end = start + part.text.length;
            }
            if (chip === wanted) {
                return start >= 0 ? [places[start], places[end - 1] + 1] : null;
            }
        }
        return null;
    }

    /** A text without spaces, in lower case, and for each of its characters the index of the one that it came from. */
    #fold(source) {
        const places = [];
        let text = "";
        for (let index = 0; index < source.length; index++) {
            for (const character of source[index].trim().toLowerCase()) {
                text += character;
                places.push(index);
            }
        }
        return { text, places };
    }
}

window.embedMergeSelecting = new EmbedMergeSelecting();
