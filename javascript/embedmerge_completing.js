/**
 * Completion in the text box of the page Make: embeddings of the library, and functions of the language.
 *
 * The server is asked with the text before the cursor. Its list appears below the box. Arrow keys choose, Enter or Tab
 * inserts, Escape hides. Pictures of embeddings are asked for once the list is shown. The list stays hidden while another
 * extension shows completions of its own, and Enter without a choice begins a new line as ever.
 */
class EmbedMergeCompleting {
    /** Milliseconds from the last keystroke to the question. */
    static PAUSE = 120;
    static BOX = "#embedmerge_source textarea, #embedmerge_source input";
    static LIST = "#embedmerge_completions .embedmerge-completions";
    /** The lists of the extension Tag Autocomplete. */
    static OTHERS = ".autocompleteParent, .autocompleteResults";
    /** Pictures that are kept. */
    static KEPT = 400;
    /** What is before the cursor if something can be completed. */
    static BEGUN = /(?:[^\s,()"<>{}[\]*+=/:|']|')$/u;

    #question = new EmbedMergeQuestion("complete", "completions", () => this.#show());
    #pictures = new EmbedMergeQuestion("complete_pictures", "completion_pictures", () => this.#keepPictures());
    /** Name of an embedding -> the number of its picture and its address; both are empty if it has none. */
    #known = new Map();
    #asked = "";
    #chosen = -1;
    #timer = 0;

    constructor() {
        document.addEventListener("input", (event) => this.#onInput(event));
        // In the capture phase, before other extensions and the web UI use the same keys.
        document.addEventListener("keydown", (event) => this.#onKeyDown(event), true);
        document.addEventListener("mousedown", (event) => this.#onMouseDown(event), true);
        document.addEventListener("scroll", (event) => event.target !== this.#list && this.#hide(), true);
        document.addEventListener("focusout", (event) => event.target.matches?.(EmbedMergeCompleting.BOX) && this.#hide());
    }

    /** Called by gradio when it sends the question. Returns its number, then the text before the cursor. */
    takeMessage() {
        this.#asked = this.#readBefore();
        return `${this.#question.takeNumber()}\n${this.#asked}`;
    }

    /** Called by gradio when it asks for pictures. Returns its number, then JSON: each name, and the number that is known. */
    takePictureMessage() {
        const names = this.#options.map((option) => option.dataset.embedmergeName).filter(Boolean);
        const pairs = names.map((name) => [name, this.#known.get(name)?.number ?? ""]);
        return `${this.#pictures.takeNumber()}\n${JSON.stringify(pairs)}`;
    }

    #onInput(event) {
        if (!event.target.matches?.(EmbedMergeCompleting.BOX)) {
            return;
        }
        this.#hide();
        clearTimeout(this.#timer);
        if (event.isTrusted && EmbedMergeCompleting.BEGUN.test(this.#readBefore())) {
            this.#timer = setTimeout(() => this.#question.ask(), EmbedMergeCompleting.PAUSE);
        }
    }

    #onKeyDown(event) {
        if (!this.#isShown || !event.target.matches?.(EmbedMergeCompleting.BOX) || event.isComposing) {
            return;
        }
        const options = this.#options;
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step && !event.ctrlKey && !event.altKey && !event.metaKey) {
            const from = this.#chosen < 0 && step < 0 ? 0 : this.#chosen;
            this.#choose((from + step + options.length) % options.length);
        } else if (event.key === "Escape") {
            this.#hide();
        } else if (event.key === "Tab" && !event.shiftKey) {
            this.#insert(options[Math.max(this.#chosen, 0)]);
        } else if (event.key === "Enter" && this.#chosen >= 0 && !event.ctrlKey && !event.metaKey) {
            this.#insert(options[this.#chosen]);
        } else {
            return;
        }
        event.preventDefault();
        event.stopImmediatePropagation();
    }

    #onMouseDown(event) {
        const option = event.target.closest?.(`${EmbedMergeCompleting.LIST} .embedmerge-completion`);
        if (option) {
            event.preventDefault(); // the box keeps the focus
            this.#insert(option);
        }
    }

    get #list() {
        return document.querySelector(EmbedMergeCompleting.LIST);
    }

    get #options() {
        return [...(this.#list?.children ?? [])];
    }

    get #isShown() {
        return Boolean(this.#list?.classList.contains("embedmerge-is-shown"));
    }

    /** Show the list if it is about the text as it is now, and nothing else shows one. */
    #show() {
        const box = document.querySelector(EmbedMergeCompleting.BOX);
        const options = this.#options;
        const hasOthers = [...document.querySelectorAll(EmbedMergeCompleting.OTHERS)].some((list) => list.offsetParent);
        if (!options.length || hasOthers || document.activeElement !== box || this.#readBefore() !== this.#asked) {
            this.#hide();
            return;
        }
        this.#list.setAttribute("role", "listbox");
        this.#list.setAttribute("aria-label", "Completions");
        const edges = box.getBoundingClientRect();
        Object.assign(this.#list.style, { left: `${edges.left}px`, top: `${edges.bottom}px`, width: `${edges.width}px` });
        this.#list.classList.add("embedmerge-is-shown");
        options.forEach((option, index) => (option.id = `embedmerge_completion_${index}`));
        this.#choose(-1);
        this.#drawPictures();
        if (options.some((option) => option.dataset.embedmergeName)) {
            this.#pictures.ask();
        }
    }

    /** Keep the pictures of an answer, which leaves out those that are known. */
    #keepPictures() {
        if (this.#known.size > EmbedMergeCompleting.KEPT) {
            this.#known.clear();
        }
        for (const picture of document.querySelectorAll("#embedmerge_completion_pictures [data-embedmerge-picture]")) {
            const { embedmergeName: name, embedmergePicture: number } = picture.dataset;
            this.#known.set(name, { number, source: picture.querySelector("img")?.src ?? "" });
        }
        this.#drawPictures();
    }

    /** Show the pictures that are known beside the names. */
    #drawPictures() {
        for (const option of this.#options) {
            const source = this.#known.get(option.dataset.embedmergeName)?.source ?? "";
            const shown = option.querySelector("img");
            if ((shown?.src ?? "") === source) {
                continue;
            }
            shown?.remove();
            if (source) {
                option.append(Object.assign(document.createElement("img"), { alt: "", src: source }));
            }
        }
    }

    #hide() {
        this.#list?.classList.remove("embedmerge-is-shown");
        document.querySelector(EmbedMergeCompleting.BOX)?.removeAttribute("aria-activedescendant");
        this.#chosen = -1;
    }

    #choose(index) {
        this.#chosen = index;
        const options = this.#options;
        options.forEach((option, number) => option.setAttribute("aria-selected", String(number === index)));
        const box = document.querySelector(EmbedMergeCompleting.BOX);
        if (index < 0) {
            box.removeAttribute("aria-activedescendant");
        } else {
            box.setAttribute("aria-activedescendant", options[index].id);
            options[index].scrollIntoView({ block: "nearest" });
        }
    }

    /** Replace what was typed by the text of an option, as if it had been typed. */
    #insert(option) {
        const { embedmergeTyped: typed, embedmergeText: text, embedmergeBack: back } = option.dataset;
        const box = document.querySelector(EmbedMergeCompleting.BOX);
        const end = box.selectionStart;
        box.setRangeText(text, end - typed.length, end, "end");
        box.selectionStart = box.selectionEnd -= Number(back);
        this.#hide();
        box.dispatchEvent(new Event("input", { bubbles: true }));
    }

    #readBefore() {
        const box = document.querySelector(EmbedMergeCompleting.BOX);
        return box ? box.value.slice(0, box.selectionStart) : "";
    }
}

window.embedMergeCompleting = new EmbedMergeCompleting();
