// Every GGUF in a folder loads in llama.cpp (through node-llama-cpp) and continues a text.   load.mjs FOLDER
import {readdirSync} from "node:fs";
import path from "node:path";
import {getLlama, LlamaCompletion} from "node-llama-cpp";

const folder = process.argv[2];
const files = readdirSync(folder).filter((name) => name.endsWith(".gguf")).sort();
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
let failed = 0;
for (const name of files) {
    try {
        const model = await llama.loadModel({modelPath: path.join(folder, name), gpuLayers: 0});
        const context = await model.createContext({contextSize: 256, threads: 1});
        const completion = new LlamaCompletion({contextSequence: context.getSequence()});
        const text = await completion.generateCompletion("Once upon a time", {maxTokens: 12, temperature: 0});
        if (text.length === 0) throw new Error("no text");
        console.log(`${name}: ${JSON.stringify(text)}`);
        await context.dispose();
        await model.dispose();
    } catch (error) {
        failed++;
        console.log(`${name}: FAILED ${error}`);
    }
}
console.log(`${files.length - failed} passed, ${failed} failed`);
process.exit(failed > 0 || files.length === 0 ? 1 : 0);
