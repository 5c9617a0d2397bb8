/**
 * Files that are dropped into the page Inspect, or chosen there, and copies without flaws of what it shows. The script
 * reads the files and sends their content as text.
 *
 * Nothing is uploaded: a request cannot name a file of the server, which keeps none (lib_embedmerge/ui/dropped.py).
 */
class EmbedMergeDropping {
    static AREA = "#embedmerge_file";

    /** The last dropped file, as JSON: its name, its size in bytes, and its content in base64. */
    #dropped = "{}";
    /** The embedding to copy: its name, empty for the dropped file, and "yes" if a file may be replaced. */
    #fix = ["", ""];
    #question = new EmbedMergeQuestion("drop", "inspection");
    #again = new EmbedMergeQuestion(
        "drop_again", "again", () => window.embedMergeLooking.showAgain(""), () => window.embedMergeLooking.askOnceMore(),
    );

    constructor() {
        document.addEventListener("change", (event) => this.#onChange(event));
        document.addEventListener("click", (event) => this.#onClick(event));
        document.addEventListener("dragover", (event) => this.#onDragOver(event));
        document.addEventListener("dragleave", (event) => this.#highlight(event, false));
        document.addEventListener("drop", (event) => this.#onDrop(event));
    }

    /** Called by gradio when it sends the file. Returns JSON: the number of the question, and the file. */
    takeMessage() {
        return JSON.stringify([this.#question.takeNumber(), this.#dropped]);
    }

    /** The same for a file that is inspected again. */
    takeMessageAgain() {
        return JSON.stringify([this.#again.takeNumber(), this.#dropped]);
    }

    /** Called by gradio when a copy is to be saved. Returns JSON: the name, the agreement, and the dropped file. */
    takeFixMessage() {
        return JSON.stringify([...this.#fix, this.#fix[0] ? "" : this.#dropped]);
    }

    /** Inspect the last dropped file again, on another model. */
    inspectAgain() {
        this.#again.ask();
    }

    #onClick(event) {
        const button = event.target.closest?.("#embedmerge_inspect [data-embedmerge-action=fix]");
        if (button) {
            this.#fix = [button.dataset.embedmergeName, button.dataset.embedmergeAgreed];
            this.#pressFix();
        }
    }

    /** Ask for the copy once the last answer is complete, because gradio drops a click while an event is running. */
    #pressFix() {
        if (document.querySelector("#embedmerge_fixed .pending")) {
            setTimeout(() => this.#pressFix(), EmbedMergeQuestion.CHECK_INTERVAL);
        } else {
            document.querySelector("#embedmerge_fix")?.click();
        }
    }

    #onChange(event) {
        const input = event.target.closest?.(`${EmbedMergeDropping.AREA} input[type=file]`);
        if (input?.files?.length) {
            this.#send(input.files[0]);
        }
    }

    #onDragOver(event) {
        if (this.#highlight(event, true)) {
            event.preventDefault(); // otherwise the browser allows no drop
        }
    }

    #onDrop(event) {
        const area = this.#highlight(event, false);
        const file = event.dataTransfer?.files?.[0];
        if (area && file) {
            event.preventDefault(); // otherwise the browser opens the file
            this.#send(file);
        }
    }

    /** Highlight the area of an event, or stop that. Returns the area; null if the event is elsewhere. */
    #highlight(event, isOver) {
        const area = event.target.closest?.(EmbedMergeDropping.AREA);
        area?.querySelector(".embedmerge-drop")?.classList.toggle("embedmerge-over", isOver);
        return area;
    }

    async #send(file) {
        const label = document.querySelector(`${EmbedMergeDropping.AREA} .embedmerge-drop`);
        const isSmall = file.size <= Number(label.dataset.embedmergeLargest);
        const data = isSmall ? await this.#encode(file) : null;
        this.#dropped = JSON.stringify({ name: file.name, size: file.size, data });
        label.querySelector("input").value = ""; // so that the same file can be chosen again
        this.#question.ask();
    }

    /** The content of a file in base64; null if the browser cannot read it. */
    #encode(file) {
        return new Promise((done) => {
            const reader = new FileReader();
            reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
            reader.onerror = () => done(null);
            reader.readAsDataURL(file);
        });
    }
}

window.embedMergeDropping = new EmbedMergeDropping();
