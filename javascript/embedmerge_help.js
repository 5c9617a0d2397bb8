/**
 * The page Help: its chapters are folded, listed at the top, and searched. Without this script all of it is shown.
 */
class EmbedMergeHelp {
    /** Milliseconds between two looks whether the page is shown. */
    static CHECK_INTERVAL = 300;
    static HEAD = "#embedmerge_help_head";
    static PAGES = ["#embedmerge_quick_start", "#embedmerge_syntax"];

    /** @type {HTMLDetailsElement[]} */
    #chapters = [];

    constructor() {
        setInterval(() => this.#check(), EmbedMergeHelp.CHECK_INTERVAL);
        document.addEventListener("input", (event) => {
            if (event.target.matches?.(`${EmbedMergeHelp.HEAD} input`)) {
                this.#search(event.target.value);
            }
        });
        document.addEventListener("click", (event) => {
            const link = event.target.closest?.(`${EmbedMergeHelp.HEAD} [data-embedmerge-chapter]`);
            if (link) {
                this.#open(this.#chapters[Number(link.dataset.embedmergeChapter)]);
            }
        });
    }

    /** Fold the chapters as soon as the page is shown, and again if gradio has drawn it again. */
    #check() {
        const contents = document.querySelector(`${EmbedMergeHelp.HEAD} nav`);
        if (!contents?.offsetParent || (contents.childElementCount && this.#chapters.every((one) => one.isConnected))) {
            return;
        }
        this.#chapters = EmbedMergeHelp.PAGES.flatMap((page) => this.#fold(document.querySelector(page)));
        contents.replaceChildren(...this.#chapters.map((chapter, index) => this.#makeLink(chapter, index)));
        this.#search(document.querySelector(`${EmbedMergeHelp.HEAD} input`).value);
    }

    /** Put each chapter of a page, a heading with all that follows until the next one, into an element that folds. */
    #fold(page) {
        const folded = [...(page?.querySelectorAll("details.embedmerge-chapter") ?? [])];
        if (folded.length) {
            return folded;
        }
        const chapters = [];
        for (const heading of page?.querySelectorAll("h2") ?? []) {
            const chapter = document.createElement("details");
            chapter.className = "embedmerge-chapter";
            const summary = document.createElement("summary");
            heading.replaceWith(chapter);
            while (chapter.nextSibling && chapter.nextSibling.nodeName !== "H2") {
                chapter.append(chapter.nextSibling);
            }
            summary.append(heading);
            chapter.prepend(summary);
            chapter.open = page.matches(EmbedMergeHelp.PAGES[0]);
            chapters.push(chapter);
        }
        return chapters;
    }

    #makeLink(chapter, index) {
        const link = document.createElement("button");
        link.type = "button";
        link.className = "embedmerge-link";
        link.dataset.embedmergeChapter = index;
        link.textContent = this.#findTitle(chapter);
        return link;
    }

    #findTitle(chapter) {
        return chapter.querySelector("h2").textContent.trim();
    }

    #open(chapter) {
        chapter.open = true;
        chapter.querySelector("summary").focus({ preventScroll: true });
        chapter.scrollIntoView({ block: "start" });
    }

    /** Show the chapters that have all the words, open; without words, all chapters, folded as at first. */
    #search(typed) {
        const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
        let found = 0;
        this.#chapters.forEach((chapter, index) => {
            const text = chapter.textContent.toLowerCase();
            const isFound = words.every((word) => text.includes(word));
            found += isFound;
            chapter.hidden = !isFound;
            chapter.open = words.length ? isFound : Boolean(chapter.closest(EmbedMergeHelp.PAGES[0]));
            const link = document.querySelector(`${EmbedMergeHelp.HEAD} [data-embedmerge-chapter="${index}"]`);
            link.hidden = !isFound;
        });
        document.querySelector(`${EmbedMergeHelp.HEAD} .embedmerge-help-found`).textContent = words.length
            ? `${found || "No"} ${found === 1 ? "chapter has" : "chapters have"} ${words.length > 1 ? "these words" : "this word"}.`
            : "";
    }
}

window.embedMergeHelp = new EmbedMergeHelp();
