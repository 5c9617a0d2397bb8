/**
 * Follows jobs in the background wherever the tab shows one: it asks for the progress while a job runs, by clicking
 * hidden buttons as embedmerge.js does. Rebuilds and restores are followed by embedmerge_library.js.
 */
class EmbedMergeJobs {
    /** Milliseconds between two looks at the page, and between two requests for the progress of a job. */
    static CHECK_INTERVAL = 200;
    static JOB_INTERVAL = 1000;
    /** Names of the elements that show a job. After those of the library its list may have changed. */
    static PLACES = ["measured", "grouped", "weighed", "optimised", "previewed"];
    static OF_LIBRARY = ["measured", "optimised"];

    /** Value for events: name of an element -> the id of the job that it shows. */
    running = {};

    #askedAt = {};
    #ended = new Set();

    constructor() {
        setInterval(() => this.#check(), EmbedMergeJobs.CHECK_INTERVAL);
    }

    #check() {
        if (!document.querySelector("#embedmerge")?.offsetParent) {
            return;
        }
        for (const place of EmbedMergeJobs.PLACES) {
            this.#follow(place);
        }
    }

    #follow(place) {
        const { embedmergeJob: running, embedmergeEnded: ended } =
            document.querySelector(`#embedmerge_${place} .embedmerge-job`)?.dataset ?? {};
        if (running && Date.now() - (this.#askedAt[place] ?? 0) > EmbedMergeJobs.JOB_INTERVAL) {
            this.#askedAt[place] = Date.now();
            this.running[place] = running;
            document.querySelector(`#embedmerge_watch_${place}`)?.click();
        }
        if (ended && !this.#ended.has(ended)) {
            this.#ended.add(ended);
            if (EmbedMergeJobs.OF_LIBRARY.includes(place)) {
                window.embedMergeLibrary.listAgain();
            }
        }
    }
}

window.embedMergeJobs = new EmbedMergeJobs();
