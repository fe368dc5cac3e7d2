package model

fun found(output: Tensor, n: List<Int>): List<String> {
    val geometry = Geometry(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7])
    return Processing.postprocess(output, List(output.shape[0].toInt()) { geometry }).flatMapIndexed { row, all ->
        all.map { "$row ${it.className} ${it.classId} ${it.confidence} ${it.bbox.joinToString(" ")}" }
    }
}
