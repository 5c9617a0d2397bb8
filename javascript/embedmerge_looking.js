/**
 * The page Inspect. The script opens it for a file that is named anywhere in the tab, and has the file inspected again
 * when the active model or the file changes, so that no verdict about an earlier model stays.
 */
class EmbedMergeLooking {
    /** Milliseconds between two checks of the page. */
    static CHECK_INTERVAL = 400;

    /** Value for events: the argument of a button. */
    order = "";

    /** The place of the file to inspect, its path in the library. */
    #place = "";
    #question = new EmbedMergeQuestion("look_at", "inspection");
    #again = new EmbedMergeQuestion(
        "look_again", "again", () => this.showAgain(this.#place), () => this.askOnceMore(),
    );
    /** What is shown, the active model at that time, and the last message about an action. */
    #shown = null;
    #seenStatus = "";
    #seenMessage = "";

    constructor() {
        // In the capture phase, because gradio's own handlers replace the button of a page that was clicked.
        document.addEventListener("click", (event) => this.#onClick(event), true);
        setInterval(() => this.#check(), EmbedMergeLooking.CHECK_INTERVAL);
    }

    /** Called by gradio when it sends the file. Returns the number of the question, then a line with its place. */
    takeMessage() {
        return `${this.#question.takeNumber()}\n${this.#place}`;
    }

    /** The same for a file that is inspected again. */
    takeMessageAgain() {
        return `${this.#again.takeNumber()}\n${this.#place}`;
    }

    #onClick(event) {
        const element = event.target.closest?.("#embedmerge [data-embedmerge-action]");
        const data = element?.dataset ?? {};
        if (data.embedmergeAction === "inspect") {
            this.#place = data.embedmergePlace;
            this.#show();
            this.#question.ask();
        } else if (element?.closest("#embedmerge_inspect")) {
            const actions = {
                order: () => this.#press(data.embedmergePress, data.embedmergeOrder),
                use: () => window.embedMerge.use(element, data.embedmergeName),
                improve: () => window.embedMergeLibrary.improve(data.embedmergePlace),
                "save-note": () => this.#saveNote(element.closest(".embedmerge-noting")),
            };
            actions[data.embedmergeAction]?.();
        }
    }

    /** Send what the user noted about the file on the active model. */
    #saveNote(form) {
        const values = ["weight", "text"].map((name) => form.querySelector(`[data-embedmerge-noted=${name}]`).value);
        const { embedmergePlace: place, embedmergeRating: rating } = form.dataset;
        this.#press("note", JSON.stringify([place, rating, ...values]));
    }

    /** Click the hidden button of this page for an action, once the last answer is complete: gradio drops clicks. */
    #press(name, order) {
        this.order = order;
        if (document.querySelector("#embedmerge_fixed .pending")) {
            setTimeout(() => this.#press(name, order), EmbedMergeQuestion.CHECK_INTERVAL);
        } else {
            document.querySelector(`#embedmerge_${name}_here`)?.click();
        }
    }

    /**
     * Show the answer about a file that was inspected again, unless another file is shown now.
     * @param {string} place of the file; empty for a dropped one
     */
    showAgain(place) {
        const [shown, answer] = [this.#findView("inspection"), this.#findView("again")];
        if (shown?.dataset.embedmergePlace === place && answer) {
            // Into the element of the last answer, which gradio removes with the next one.
            shown.replaceChildren(...[...answer.childNodes].map((node) => node.cloneNode(true)));
        }
    }

    /** Inspect what is shown again at the next check, because the last answer is lost. */
    askOnceMore() {
        this.#seenStatus = "";
    }

    /** The view in an element of this page, or null. */
    #findView(name) {
        return document.querySelector(`#embedmerge_${name} .embedmerge-view`);
    }

    /** Inspect what is shown again if the active model, or the file, may have changed since. */
    #check() {
        const inspection = this.#findView("inspection");
        if (!inspection?.offsetParent || this.#question.isPending || this.#again.isPending) {
            return;
        }
        const [status, message] = ["status", "fixed"].map((name) => this.#findView(name)?.textContent ?? "");
        if (inspection !== this.#shown) {
            // A slow answer may be about the model before this one.
            const isCurrent = inspection.dataset.embedmergeModel === this.#findView("status")?.dataset.embedmergeModel;
            [this.#shown, this.#seenStatus] = [inspection, isCurrent ? status : ""];
        }
        // After a mistake the file is as it was, and what was typed stays.
        const isMistake = Boolean(document.querySelector("#embedmerge_fixed .embedmerge-error-box"));
        const hasChanged = message && !isMistake && message !== this.#seenMessage;
        this.#seenMessage = message;
        if (!status || (status === this.#seenStatus && !hasChanged)) {
            return;
        }
        this.#seenStatus = status;
        const { embedmergePlace: place } = inspection.dataset;
        if (place) {
            this.#place = place;
            this.#again.ask();
        } else if (place === "") {
            window.embedMergeDropping.inspectAgain();
        }
    }

    /** Show the page Inspect. */
    #show() {
        [...document.querySelectorAll(EmbedMerge.TABS)].find((tab) => tab.textContent.trim() === "Inspect")?.click();
    }
}

window.embedMergeLooking = new EmbedMergeLooking();
