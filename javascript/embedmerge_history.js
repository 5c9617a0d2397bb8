/**
 * The last texts of the page Make, which the browser keeps on this machine. A text is remembered when it has been valid
 * and unchanged for a moment. A click on one writes it into the text box again.
 */
class EmbedMergeHistory {
    static KEY = "embedmerge-history";
    static MOST = 50;
    /** Characters of the longest text that is remembered. */
    static LONGEST = 4000;
    /** Milliseconds between two looks at the text, and without a change until it is remembered. */
    static CHECK_INTERVAL = 500;
    static REST = 2000;
    static PLACE = "#embedmerge_history .embedmerge-history-list";

    #text = "";
    #changedAt = 0;

    constructor() {
        setInterval(() => this.#check(), EmbedMergeHistory.CHECK_INTERVAL);
        document.addEventListener("toggle", (event) => this.#onToggle(event), true); // this event does not bubble
        document.addEventListener("input", (event) => {
            if (event.target.matches?.(`${EmbedMergeHistory.PLACE} input`)) {
                this.#filter(event.target.value);
            }
        });
        document.addEventListener("click", (event) => {
            if (event.target.closest?.("#embedmerge_history [data-embedmerge-action=forget]")) {
                this.#write([]);
                this.#draw();
            }
        });
    }

    #check() {
        const box = document.querySelector("#embedmerge_source textarea, #embedmerge_source input");
        const text = box?.offsetParent ? box.value.trim() : "";
        if (text !== this.#text) {
            this.#text = text;
            this.#changedAt = Date.now();
        } else if (text && this.#changedAt && Date.now() - this.#changedAt >= EmbedMergeHistory.REST) {
            this.#changedAt = 0;
            const answer = document.querySelector("#embedmerge_answer .embedmerge-view");
            if (answer && !answer.parentElement.querySelector(".embedmerge-error-box")) {
                this.#remember(text);
            }
        }
    }

    #remember(text) {
        const texts = this.#read();
        if (text === texts[0] || text.length > EmbedMergeHistory.LONGEST) {
            return;
        }
        this.#write([text, ...texts.filter((other) => other !== text)].slice(0, EmbedMergeHistory.MOST));
        this.#draw();
    }

    #onToggle(event) {
        if (event.target.open && event.target.closest?.("#embedmerge_history")) {
            this.#draw();
        }
    }

    #draw() {
        const place = document.querySelector(EmbedMergeHistory.PLACE);
        if (!place) {
            return;
        }
        const texts = this.#read();
        const wanted = place.querySelector("input")?.value ?? "";
        const search = Object.assign(document.createElement("input"), {
            type: "search", placeholder: "Search", value: wanted, className: "embedmerge-search",
        });
        search.setAttribute("aria-label", "Search the history");
        place.replaceChildren(...(texts.length ? [search] : []), ...texts.map((text) => this.#makeButton("edit", text)));
        place.append(texts.length ? this.#makeButton("forget", "Clear the history") : "Texts that you try appear here.");
        this.#filter(wanted);
    }

    #makeButton(action, text) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = action === "edit" ? "embedmerge-button embedmerge-earlier" : "embedmerge-button";
        button.dataset.embedmergeAction = action;
        button.dataset.embedmergeText = text;
        button.textContent = text;
        return button;
    }

    #filter(words) {
        const wanted = words.trim().toLowerCase();
        for (const button of document.querySelectorAll(`${EmbedMergeHistory.PLACE} .embedmerge-earlier`)) {
            button.hidden = !button.textContent.toLowerCase().includes(wanted);
        }
    }

    #read() {
        try {
            const texts = JSON.parse(localStorage.getItem(EmbedMergeHistory.KEY) ?? "[]");
            return Array.isArray(texts) ? texts.filter((text) => typeof text === "string") : [];
        } catch {
            return []; // the browser forbids it, or another program has written there
        }
    }

    #write(texts) {
        try {
            localStorage.setItem(EmbedMergeHistory.KEY, JSON.stringify(texts));
        } catch {
            // The browser forbids it, or has no room: then nothing is remembered.
        }
    }
}

window.embedMergeHistory = new EmbedMergeHistory();
