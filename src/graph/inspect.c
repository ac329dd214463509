/* Walking a graph from outside. */
#include "graph/graph.h"

sl_node *sl_graph_node(const sl_graph *graph, int i)
{
    return graph && i >= 0 && i < graph->n ? graph->nodes[i] : NULL;
}

const char *sl_node_operation(const sl_node *node)
{
    return node ? sl_op_name(node->op) : "";
}

sl_node *sl_node_input(const sl_node *node, int k)
{
    return node && k >= 0 && k < node->n_in ? node->in[k] : NULL;
}
