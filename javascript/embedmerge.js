/**
 * The page's script: decides when to ask the server, and does what needs no server.
 *
 * Texts are asked about after a pause in the typing, by pressing buttons that nobody sees (lib_embedmerge/ui/tab.py).
 * Everything that can be clicked inside our HTML says what it does in data-embedmerge-action; one listener serves all.
 * All listeners are on the document, so nothing has to be found or attached before gradio has drawn it.
 */

/**
 * Something the server is asked again and again: once at a time, and once more where that was wished for meanwhile.
 * gradio drops a click while the one before is under way, so an answer could be to an old text for good.
 */
class EmbedMergeQuestion {
    /** Milliseconds until an answer is taken for lost, and between two looks at whether it is there. */
    static PATIENCE = 15000;
    static LOOK = 40;

    #name;
    #output;
    #answered;
    #number = 0;
    #since = 0;
    #isWishedAgain = false;

    /**
     * @param {string} name of the button that asks
     * @param {string} output of the element whose content holds the number of the question
     * @param {() => void} answered called when the newest question has its answer
     */
    constructor(name, output, answered = () => {}) {
        this.#name = name;
        this.#output = output;
        this.#answered = answered;
    }

    ask() {
        if (this.#since) {
            this.#isWishedAgain = true;
            return;
        }
        this.#since = Date.now();
        this.#isWishedAgain = false;
        const before = this.#seen();
        document.querySelector(`#embedmerge_${this.#name}`)?.click();
        this.#wait(before);
    }

    /** Called by gradio when the question is sent: its number, which comes back with the answer. */
    asking() {
        this.#number += 1;
        return String(this.#number);
    }

    #wait(before) {
        const isAnswered = this.#seen() !== before;
        if (!isAnswered && Date.now() - this.#since < EmbedMergeQuestion.PATIENCE) {
            setTimeout(() => this.#wait(before), EmbedMergeQuestion.LOOK);
            return;
        }
        this.#since = 0;
        if (this.#isWishedAgain || (isAnswered && this.#seen() !== String(this.#number))) {
            this.ask();
        } else if (isAnswered) {
            this.#answered();
        }
    }

    #seen() {
        return document.querySelector(`#embedmerge_${this.#output} [data-embedmerge-asked]`)?.dataset.embedmergeAsked;
    }
}

class EmbedMerge {
    /** Milliseconds without a key before the text, and then its vectors, are asked about. */
    static PAUSE = 150;
    static LONGER_PAUSE = 350;
    /** Milliseconds between two looks at whether the tab is shown, and at the active model. */
    static LOOK = 400;
    static STATUS = 4000;
    /** Milliseconds that a button says what it has done. */
    static DONE = 1200;
    /** What can be clicked that is not ours: pages of the tab (gradio 3 gives them no role), examples of the help. */
    static TABS = "#embedmerge_pages > .tab-nav > button";
    static EXAMPLES = "#embedmerge_syntax pre.language-embedmerge, #embedmerge_syntax td code";

    /** Names of files that the user has agreed to replace, a line each; sent with the wish to. */
    confirmed = "";

    #questions = {
        ask: new EmbedMergeQuestion("ask", "answer", () => this.#lookLater()),
        look: new EmbedMergeQuestion("look", "vectors"),
        check: new EmbedMergeQuestion("check", "naming"),
    };
    #timers = new Map();
    #shown = false;
    #statusText = "";
    #statusAt = 0;
    #savedText = "";

    constructor() {
        document.addEventListener("input", (event) => this.#typed(event));
        document.addEventListener("change", (event) => this.#changed(event));
        // Before gradio's own handlers, which put another button in the place of a tab's that was clicked.
        document.addEventListener("click", (event) => this.#clicked(event), true);
        // Before the web UI's own handler, which would start a generation.
        document.addEventListener("keydown", (event) => this.#pressed(event), true);
        setInterval(() => this.#look(), EmbedMerge.LOOK);
    }

    /**
     * Called by gradio when one of the questions is sent: the number by which its answer is known.
     * @param {"ask" | "look" | "check"} name
     * @returns {string}
     */
    asking(name) {
        return this.#questions[name].asking();
    }

    #typed(event) {
        if (event.target.closest?.("#embedmerge_source")) {
            this.#askIn(EmbedMerge.PAUSE);
        } else if (event.target.closest?.("#embedmerge_name")) {
            this.#later("check", EmbedMerge.PAUSE, () => this.#questions.check.ask());
        }
    }

    #changed(event) {
        if (event.target.closest?.("#embedmerge_by, #embedmerge_attention, #embedmerge_follow")) {
            this.#askIn(0);
        }
    }

    #pressed(event) {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.closest?.("#embedmerge_make")) {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
        if (this.#box("name").value.trim()) {
            this.#press("save");
        } else {
            this.#askIn(0);
        }
    }

    #clicked(event) {
        const example = event.target.closest?.(EmbedMerge.EXAMPLES)?.textContent.trim();
        if (example?.includes("'")) {
            this.#edit(example);
            return;
        }
        if (event.target.closest?.(EmbedMerge.TABS)) {
            this.#later("list", 0, () => this.#list());
        }
        const element = event.target.closest?.("[data-embedmerge-action]");
        if (!element) {
            return;
        }
        const data = element.dataset;
        const actions = {
            edit: () => this.#edit(data.embedmergeText),
            insert: () => this.#insert(data.embedmergeTarget, data.embedmergeText),
            copy: () => this.#copy(element, data.embedmergeText),
            replace: () => {
                this.confirmed = data.embedmergeNames;
                this.#press("replace");
            },
            insist: () => this.#press("insist"),
            "use-name": () => this.#write(this.#box("name"), data.embedmergeName),
        };
        actions[data.embedmergeAction]?.();
    }

    /** Put a text into our own box, and show it. */
    #edit(text) {
        document.querySelector(EmbedMerge.TABS)?.click(); // the first
        const box = this.#box("source");
        this.#write(box, text);
        // gradio shows the page a moment later, and what is hidden takes no focus.
        this.#later("focus", 0, () => {
            box.scrollIntoView({ block: "nearest" });
            box.focus();
        });
    }

    /** Add a text to one of the web UI's prompts, and go there. */
    #insert(target, text) {
        const [box, show] = {
            txt2img: ["#txt2img_prompt textarea", "switch_to_txt2img"],
            img2img: ["#img2img_prompt textarea", "switch_to_img2img"],
            negative: ["#txt2img_neg_prompt textarea", "switch_to_txt2img"],
        }[target];
        const prompt = document.querySelector(box);
        if (!prompt) {
            return;
        }
        const before = prompt.value.trimEnd().replace(/,$/, "");
        this.#write(prompt, before ? `${before}, ${text}` : text);
        window[show]?.();
    }

    async #copy(button, text) {
        try {
            await navigator.clipboard.writeText(text);
        } catch {
            // Pages that come over a network without https may not use the clipboard directly.
            const box = document.createElement("textarea");
            box.value = text;
            document.body.append(box);
            box.select();
            document.execCommand("copy");
            box.remove();
        }
        button.dataset.embedmergeLabel ??= button.textContent;
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = button.dataset.embedmergeLabel), EmbedMerge.DONE);
    }

    /** Ask how the text is read; once that is known and the text has rested, what its vectors look like. */
    #askIn(pause) {
        clearTimeout(this.#timers.get("look"));
        this.#later("ask", pause, () => this.#questions.ask.ask());
    }

    #lookLater() {
        this.#later("look", EmbedMerge.LONGER_PAUSE, () => this.#questions.look.ask());
    }

    #list() {
        this.#press("list");
        this.#press("checkpoints"); // only where they can be chosen here
    }

    /** Begin when the tab comes into view, and keep up with the web UI's active model while it is. */
    #look() {
        const root = document.querySelector("#embedmerge");
        const isShown = Boolean(root?.offsetParent);
        if (isShown && (!this.#shown || Date.now() - this.#statusAt > EmbedMerge.STATUS) && !document.hidden) {
            this.#statusAt = Date.now();
            this.#press("refresh");
        }
        if (isShown && !this.#shown) {
            this.#list();
        }
        this.#shown = isShown;
        if (!isShown) {
            return;
        }
        const text = (name) => document.querySelector(`#embedmerge_${name}`)?.textContent ?? "";
        const [status, saved] = [text("status"), text("saved")];
        if (status !== this.#statusText || saved !== this.#savedText) {
            // Another model or another embedding: other vectors, perhaps other names.
            [this.#statusText, this.#savedText] = [status, saved];
            this.#askIn(0);
            this.#questions.check.ask();
            this.#press("list");
        }
    }

    #later(name, pause, action) {
        clearTimeout(this.#timers.get(name));
        this.#timers.set(name, setTimeout(action, pause));
    }

    #press(name) {
        document.querySelector(`#embedmerge_${name}`)?.click();
    }

    #box(name) {
        return document.querySelector(`#embedmerge_${name} textarea, #embedmerge_${name} input`);
    }

    /** As if it had been typed. */
    #write(box, text) {
        box.value = text;
        box.dispatchEvent(new Event("input", { bubbles: true }));
    }
}

window.embedMerge = new EmbedMerge();
