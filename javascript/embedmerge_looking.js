/**
 * The page Inspect. The script opens it for a file that is named anywhere in the tab, and has it inspected again when the
 * active model changes, so that no verdict about an earlier model stays.
 */
class EmbedMergeLooking {
    /** Milliseconds between two checks of the page. */
    static CHECK_INTERVAL = 400;

    /** The place of the file to inspect, its path in the library. */
    #place = "";
    #question = new EmbedMergeQuestion("look_at", "inspection");

    constructor() {
        // In the capture phase, because gradio's own handlers replace the button of a page that was clicked.
        document.addEventListener("click", (event) => this.#onClick(event), true);
    }

    /** Called by gradio when it sends the file. Returns the number of the question, then a line with its place. */
    takeMessage() {
        return `${this.#question.takeNumber()}\n${this.#place}`;
    }

    #onClick(event) {
        const element = event.target.closest?.("#embedmerge [data-embedmerge-action=inspect]");
        if (!element) {
            return;
        }
        this.#place = element.dataset.embedmergePlace;
        this.#show();
        this.#question.ask();
    }

    /** Show the page Inspect. */
    #show() {
        [...document.querySelectorAll(EmbedMerge.TABS)].find((tab) => tab.textContent.trim() === "Inspect")?.click();
    }
}

window.embedMergeLooking = new EmbedMergeLooking();
