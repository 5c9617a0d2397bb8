/**
 * The script of the tab. It decides when the server is asked, and handles clicks that need no server.
 *
 * After a pause in the typing it clicks hidden buttons (lib_embedmerge/ui/tab.py), whose events send the text.
 * The attribute data-embedmerge-action of an element in a view names what a click on it does; one listener handles all.
 * All listeners are on the document, so that they work whenever gradio draws an element.
 */

/**
 * A question that the server is asked repeatedly, but only once at a time.
 *
 * If it is asked while an answer is pending, it is sent once more afterwards. Otherwise the last answer could belong to
 * an old text, because gradio drops a click on a button while the event of the last click is running.
 */
class EmbedMergeQuestion {
    /** Milliseconds until an answer counts as lost, between two checks for it, and until a click counts as dropped. */
    static TIMEOUT = 15000;
    static CHECK_INTERVAL = 40;
    static DROPPED = 1000;
    /** Number of the latest question of all: several share an output, so no two have the same number. */
    static #count = 0;

    #button;
    #output;
    #onAnswer;
    #onSilence;
    #number = 0;
    /** When the pending question was asked, in milliseconds; 0 if none is. */
    #askedAt = 0;
    /** When the button was clicked; and whether gradio has sent the question since it was asked. */
    #pressedAt = 0;
    #isTaken = false;
    #mustAskAgain = false;

    /**
     * @param {string} button name of the hidden button that sends the question
     * @param {string} output name of the element that shows the answer
     * @param {() => void} onAnswer called when the latest question has been answered
     * @param {() => void} onSilence called when an answer counts as lost
     */
    constructor(button, output, onAnswer = () => {}, onSilence = () => {}) {
        this.#button = button;
        this.#output = output;
        this.#onAnswer = onAnswer;
        this.#onSilence = onSilence;
    }

    get isPending() {
        return this.#askedAt > 0;
    }

    ask() {
        if (this.#askedAt) {
            this.#mustAskAgain = true;
            return;
        }
        this.#askedAt = Date.now();
        this.#mustAskAgain = false;
        this.#isTaken = false;
        this.#press();
        this.#waitForAnswer(this.#readAnsweredNumber());
    }

    /** Click the hidden button, if it is there: gradio 6 draws a page only when it is opened. */
    #press() {
        const button = document.querySelector(`#embedmerge_${this.#button}`);
        this.#pressedAt = button ? Date.now() : 0;
        button?.click();
    }

    /** Called by gradio when it sends the question. Returns its number, which the answer contains too. */
    takeNumber() {
        this.#isTaken = true;
        this.#number = ++EmbedMergeQuestion.#count;
        return String(this.#number);
    }

    /** previous: the number in the answer that was shown before. */
    #waitForAnswer(previous) {
        if (!this.#isTaken && Date.now() - this.#pressedAt > EmbedMergeQuestion.DROPPED) {
            this.#press();
        }
        const isAnswered = this.#readAnsweredNumber() !== previous;
        if (!isAnswered && Date.now() - this.#askedAt < EmbedMergeQuestion.TIMEOUT) {
            setTimeout(() => this.#waitForAnswer(previous), EmbedMergeQuestion.CHECK_INTERVAL);
            return;
        }
        this.#askedAt = 0;
        if (this.#mustAskAgain || (isAnswered && this.#readAnsweredNumber() !== String(this.#number))) {
            this.ask();
        } else if (isAnswered) {
            this.#onAnswer();
        } else {
            this.#onSilence();
        }
    }

    /** The number of the question that the shown answer belongs to; undefined if there is no answer yet. */
    #readAnsweredNumber() {
        return document.querySelector(`#embedmerge_${this.#output} [data-embedmerge-asked]`)?.dataset.embedmergeAsked;
    }
}

class EmbedMerge {
    /** Milliseconds from the last keystroke to the question, and from its answer to the request for the vectors. */
    static PAUSE = 150;
    static VECTORS_PAUSE = 350;
    /** Milliseconds between two checks of whether the tab is visible, and between two requests for the status line. */
    static CHECK_INTERVAL = 400;
    static STATUS_INTERVAL = 4000;
    /** Milliseconds for which a button shows that it has copied a text. */
    static COPIED_TIME = 1200;
    static COPIED = "Copied";
    /** Milliseconds after a click for which gradio's messages about a lost connection stay: they may be about the click. */
    static CLICK_TIME = 10000;
    /** Milliseconds in which gradio draws what was folded, and how often to wait for it: gradio can be slow. */
    static OPENING_TIME = 100;
    static OPENING_ATTEMPTS = 50;
    static FIGURES = "#embedmerge_vectors .embedmerge-figures";
    static LOST = "Connection errored out";
    /** Elements of gradio: the buttons of the tab's pages (gradio 3 gives them no role), and examples in the help. */
    static TABS = "#embedmerge_pages > .tab-nav > button, #embedmerge_pages > .tab-wrapper button[role=tab]";
    static EXAMPLES = "#embedmerge_syntax .language-embedmerge, #embedmerge_syntax td code";

    /** Value for events: the argument of a button on the page Make. */
    order = "";
    /** Names of files that the user has agreed to replace, one on each line. The hidden button "replace" sends it. */
    confirmed = "";

    #questions = {
        ask: new EmbedMergeQuestion("ask", "answer", () => this.#requestVectorsLater()),
        look: new EmbedMergeQuestion("look", "vectors"),
        check: new EmbedMergeQuestion("check", "naming"),
        refresh: new EmbedMergeQuestion(
            "refresh", "status", () => this.#onStatus(), () => this.#showSilence(),
        ),
    };
    #messages = null;
    #messageObserver = new MutationObserver(() => this.#closeMessages());
    #clickedAt = 0;
    #vectors = null;
    #vectorsObserver = new MutationObserver(() => this.#showFigures());
    #showsFigures = false;
    #timers = new Map();
    #wasShown = false;
    #statusText = "";
    #statusAt = 0;
    #savedText = "";

    constructor() {
        document.addEventListener("input", (event) => this.#onInput(event));
        document.addEventListener("change", (event) => this.#onChange(event));
        // In the capture phase, because gradio's own handlers replace the button of a page that was clicked.
        document.addEventListener("click", (event) => this.#onClick(event), true);
        document.addEventListener("toggle", (event) => this.#onToggle(event), true); // this event does not bubble
        // In the capture phase, before the web UI's own handler, which would start a generation.
        document.addEventListener("keydown", (event) => this.#onKeyDown(event), true);
        setInterval(() => this.#check(), EmbedMerge.CHECK_INTERVAL);
    }

    /**
     * Called by gradio when it sends one of the questions. Returns its number, which the answer contains too.
     * @param {"ask" | "look" | "check" | "refresh"} name
     * @returns {string}
     */
    takeNumber(name) {
        return this.#questions[name].takeNumber();
    }

    /** Write a name into the txt2img prompt, or copy it on a page without prompts. button: says that it was copied. */
    use(button, name) {
        if (document.querySelector("#txt2img_prompt textarea")) {
            this.#insert("txt2img", name);
        } else {
            this.#copy(button, name);
        }
    }

    #onInput(event) {
        if (event.target.closest?.("#embedmerge_source, #embedmerge_name")) {
            this.#hideRefusal();
        }
        if (event.target.closest?.("#embedmerge_source")) {
            this.#askLater(EmbedMerge.PAUSE);
        } else if (event.target.closest?.("#embedmerge_name")) {
            this.#runLater("check", EmbedMerge.PAUSE, () => this.#questions.check.ask());
        }
    }

    #onChange(event) {
        if (event.target.closest?.("#embedmerge_by, #embedmerge_attention, #embedmerge_follow")) {
            this.#askLater(0);
        }
    }

    #onKeyDown(event) {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.closest?.("#embedmerge_make")) {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
        if (this.#findBox("name").value.trim()) {
            this.#press("save");
        } else {
            this.#askLater(0);
        }
    }

    #onClick(event) {
        if (event.isTrusted) {
            this.#clickedAt = Date.now();
        }
        const example = event.target.closest?.(EmbedMerge.EXAMPLES)?.textContent.trim();
        if (example?.includes("'")) {
            this.#edit(example);
            return;
        }
        const tab = event.target.closest?.(EmbedMerge.TABS);
        if (tab) {
            this.#runLater("list", 0, () => this.#updateLists(tab.textContent.trim() === "Inspect"));
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
            close: () => (element.closest(".embedmerge-view").hidden = true),
            press: () => this.#press(data.embedmergePress),
            order: () => this.#orderHere(element),
            download: () => this.#download(data.embedmergeName, data.embedmergeText),
            split: () => this.#tick("split"),
            "use-name": () => this.#write(this.#findBox("name"), data.embedmergeName),
        };
        actions[data.embedmergeAction]?.();
    }

    /** Click the hidden button that an element of the page Make names. Other pages have scripts of their own. */
    #orderHere(element) {
        if (element.closest("#embedmerge_make")) {
            this.order = element.dataset.embedmergeOrder;
            this.#press(element.dataset.embedmergePress);
        }
    }

    /** Open and close the details of all text encoders together, also of those that are drawn later. */
    #onToggle(event) {
        if (event.target.matches?.(EmbedMerge.FIGURES)) {
            this.#showsFigures = event.target.open;
            this.#showFigures();
        }
    }

    /** Let the user save a text as a file of this name. */
    #download(name, text) {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([text], { type: name.endsWith(".svg") ? "image/svg+xml" : "text/html" }));
        link.download = name;
        link.click();
        URL.revokeObjectURL(link.href);
    }

    #showFigures() {
        for (const details of document.querySelectorAll(EmbedMerge.FIGURES)) {
            details.open = this.#showsFigures;
        }
    }

    /** Hide why the last text was not saved, because the text or the name is another one now. */
    #hideRefusal() {
        const refusal = document.querySelector("#embedmerge_saved .embedmerge-error-box");
        if (refusal) {
            refusal.hidden = true;
        }
    }

    /** Tick a checkbox below More, which is opened if it is closed, and go to the name, which is needed next. */
    #tick(name) {
        const find = () => document.querySelector(`#embedmerge_${name} input`);
        if (!find()?.offsetParent) {
            document.querySelector("#embedmerge_more .label-wrap")?.click();
        }
        const tickWhenDrawn = (attempts) => {
            this.#runLater("tick", EmbedMerge.OPENING_TIME, () => {
                const box = find();
                if (!box?.offsetParent && attempts) {
                    tickWhenDrawn(attempts - 1);
                    return;
                }
                if (box?.checked === false) {
                    box.click();
                }
                this.#findBox("name").focus();
            });
        };
        tickWhenDrawn(EmbedMerge.OPENING_ATTEMPTS);
    }

    /** Write a text into the text box of the page Make, and show that page. */
    #edit(text) {
        document.querySelector(EmbedMerge.TABS)?.click(); // the first page
        const box = this.#findBox("source");
        this.#write(box, text);
        // gradio shows the page only a moment later, and a hidden box cannot have the focus.
        this.#runLater("focus", 0, () => {
            box.scrollIntoView({ block: "nearest" });
            box.focus();
        });
    }

    /** Append a text to one of the web UI's prompts, and show its tab. target: txt2img, img2img or negative. */
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
            // Browsers deny the clipboard to pages from other machines without https.
            const box = document.createElement("textarea");
            box.value = text;
            document.body.append(box);
            box.select();
            document.execCommand("copy");
            box.remove();
        }
        if (button.textContent !== EmbedMerge.COPIED) {
            button.dataset.embedmergeLabel = button.textContent;
        }
        const label = button.dataset.embedmergeLabel;
        button.textContent = EmbedMerge.COPIED;
        setTimeout(() => {
            if (button.textContent === EmbedMerge.COPIED) { // gradio 6 may have made another button of it by now
                button.textContent = label;
            }
        }, EmbedMerge.COPIED_TIME);
    }

    /** Ask how the text is read. The vectors are requested after the answer, if the text has not changed meanwhile. */
    #askLater(pause) {
        clearTimeout(this.#timers.get("look"));
        this.#runLater("ask", pause, () => this.#questions.ask.ask());
    }

    #requestVectorsLater() {
        this.#runLater("look", EmbedMerge.VECTORS_PAUSE, () => this.#questions.look.ask());
    }

    /** Update the choices of checkpoints and of embeddings; of these there may be thousands. */
    #updateLists(withEmbeddings = true) {
        if (withEmbeddings) {
            this.#press("list");
        }
        this.#press("checkpoints"); // this button exists only if the page can choose a checkpoint
    }

    /** While the tab is visible, follow the active model and the library. */
    #check() {
        const root = document.querySelector("#embedmerge");
        const isShown = Boolean(root?.offsetParent);
        const isStatusOld = !this.#wasShown || Date.now() - this.#statusAt > EmbedMerge.STATUS_INTERVAL;
        if (isShown && isStatusOld && !document.hidden && !this.#questions.refresh.isPending) {
            this.#statusAt = Date.now();
            this.#questions.refresh.ask();
        }
        if (isShown && !this.#wasShown) {
            this.#updateLists();
        }
        this.#wasShown = isShown;
        if (!isShown) {
            return;
        }
        this.#watchMessages();
        const vectors = document.querySelector("#embedmerge_vectors");
        if (vectors && vectors !== this.#vectors) {
            this.#vectors = vectors;
            this.#vectorsObserver.observe(vectors, { childList: true, subtree: true });
        }
        const text = (name) => document.querySelector(`#embedmerge_${name}`)?.textContent ?? "";
        const [status, saved] = [text("status"), text("saved") + text("fixed")];
        if (status !== this.#statusText || saved !== this.#savedText) {
            // The model or an embedding has changed, so other vectors, and perhaps other names.
            [this.#statusText, this.#savedText] = [status, saved];
            this.#askLater(0);
            this.#questions.check.ask();
            this.#press("list");
        }
    }

    /** The status line was answered: the next one is requested after a pause, and what was lost meanwhile now. */
    #onStatus() {
        this.#statusAt = Date.now();
        const { dataset } = document.querySelector("#embedmerge");
        if ("embedmergeSilent" in dataset) {
            delete dataset.embedmergeSilent;
            this.#askLater(0);
        }
    }

    /** Say in the tab that the web UI does not answer, until it does. */
    #showSilence() {
        document.querySelector("#embedmerge").dataset.embedmergeSilent = "";
    }

    /** Watch the place where gradio shows its red messages, which it may have made again. */
    #watchMessages() {
        const messages = document.querySelector(".toast-wrap");
        if (messages && messages !== this.#messages) {
            this.#messages = messages;
            this.#messageObserver.observe(messages, { childList: true });
            this.#closeMessages();
        }
    }

    /**
     * Close gradio's messages about a lost connection if they follow from questions that nobody has clicked for. A busy
     * web UI would pile them up; the tab says it in one line instead.
     */
    #closeMessages() {
        const isAsking = Object.values(this.#questions).some((question) => question.isPending);
        if (!isAsking || Date.now() - this.#clickedAt < EmbedMerge.CLICK_TIME) {
            return;
        }
        for (const message of this.#messages.querySelectorAll(".toast-body.error")) {
            if (message.textContent.includes(EmbedMerge.LOST)) {
                message.querySelector(".toast-close")?.click();
                this.#showSilence();
            }
        }
    }

    /** Run an action after a pause, instead of the last one with this name if that has not run yet. */
    #runLater(name, pause, action) {
        clearTimeout(this.#timers.get(name));
        this.#timers.set(name, setTimeout(action, pause));
    }

    /** Click a button of the tab by its name, if it exists. */
    #press(name) {
        document.querySelector(`#embedmerge_${name}`)?.click();
    }

    #findBox(name) {
        return document.querySelector(`#embedmerge_${name} textarea, #embedmerge_${name} input`);
    }

    /** Write a text into a box as if it had been typed. */
    #write(box, text) {
        box.value = text;
        box.dispatchEvent(new Event("input", { bubbles: true }));
    }
}

window.embedMerge = new EmbedMerge();
