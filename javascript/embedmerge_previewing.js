/**
 * The section of the page Library that makes preview pictures. The script reads the settings of the web UI's tab txt2img
 * from its widgets, when the section is opened for the first time and when the user asks for it.
 */
class EmbedMergePreviewing {
    /** Milliseconds between two checks whether the section is open. */
    static CHECK_INTERVAL = 300;
    /** Setting -> selectors of the web UI's widget, of which the first that exists is read. */
    static WIDGETS = {
        prompt: ["#txt2img_prompt textarea"],
        negative_prompt: ["#txt2img_neg_prompt textarea"],
        sampler: ["#txt2img_sampling input[type=radio]:checked", "#txt2img_sampling input:not([type=radio])"],
        scheduler: ["#txt2img_scheduler input"],
        steps: ["#txt2img_steps input[type=number]"],
        width: ["#txt2img_width input[type=number]"],
        height: ["#txt2img_height input[type=number]"],
        guidance: ["#txt2img_cfg_scale input[type=number]"],
        seed: ["#txt2img_seed input[type=number]", "#txt2img_seed input"],
    };

    #wasFilled = false;
    /** Whether the user has started a job, whose progress is above the list and may be out of sight. */
    #isStarting = false;
    /** Whether the last pictures that are not saved were asked for. */
    #wasAsked = false;
    /** Number of the last answer with a text that was pasted. */
    #pastedGrid = null;

    constructor() {
        document.addEventListener("click", (event) => {
            this.#isStarting ||= Boolean(event.target.closest?.("#embedmerge_make_previews"));
        }, true);
        setInterval(() => this.#check(), EmbedMergePreviewing.CHECK_INTERVAL);
    }

    /** Called by gradio when it fills the section. JSON: setting -> its value in the tab txt2img; empty without one. */
    get tabSettings() {
        const settings = {};
        for (const [name, selectors] of Object.entries(EmbedMergePreviewing.WIDGETS)) {
            const widget = selectors.map((selector) => document.querySelector(selector)).find(Boolean);
            if (widget) {
                settings[name] = widget.value;
            }
        }
        return JSON.stringify(settings);
    }

    /** Called by gradio when it sets up a grid. JSON: the settings of the tab txt2img, then the ticked embeddings. */
    get gridMessage() {
        return JSON.stringify([this.tabSettings, ...JSON.parse(window.embedMergeLibrary.tickedFiles)]);
    }

    /** Paste an infotext into the tab txt2img with the web UI's own button, and show that tab. */
    async #paste(infotext) {
        const { CHECK_INTERVAL } = EmbedMergePreviewing;
        const [prompt, negative] = ["#txt2img_prompt textarea", "#txt2img_neg_prompt textarea"].map(
            (selector) => document.querySelector(selector),
        );
        const button = document.querySelector("#txt2img_tools #paste, #tab_txt2img #paste");
        if (!prompt || !button) {
            return;
        }
        for (const [box, text] of [[negative, ""], [prompt, infotext]]) { // Forge Neo pastes over no negative prompt
            if (box && box.value !== text) {
                box.value = text;
                box.dispatchEvent(new Event("input", { bubbles: true }));
            }
        }
        for (let tries = 0; tries < 10; tries += 1) {
            await new Promise((resolve) => { setTimeout(resolve, CHECK_INTERVAL); }); // gradio reads the boxes
            if (!button.disabled) {
                break;
            }
        }
        button.click();
        window.switch_to_txt2img?.();
    }

    #check() {
        const grid = document.querySelector("#embedmerge_grid [data-embedmerge-text]");
        const { embedmergeAsked: number = null } = grid?.dataset ?? {}; // gradio may draw the same answer again
        if (grid && number !== this.#pastedGrid) {
            this.#pastedGrid = number;
            this.#paste(grid.dataset.embedmergeText);
        }
        const job = document.querySelector("#embedmerge_previewed");
        if (this.#isStarting && job?.querySelector(".embedmerge-view") && !job.querySelector(".pending")) {
            this.#isStarting = false;
            job.scrollIntoView({ block: "center" });
        }
        if (!this.#wasAsked && document.querySelector("#embedmerge_cards")?.offsetParent) { // the page is shown
            this.#wasAsked = true;
            document.querySelector("#embedmerge_last_previews")?.click();
        }
        const button = document.querySelector("#embedmerge_take_settings");
        if (!this.#wasFilled && button?.offsetParent) {
            this.#wasFilled = true;
            button.click();
        }
    }
}

window.embedMergePreviewing = new EmbedMergePreviewing();
